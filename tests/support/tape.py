"""CUDA graphs without CUDA: operations are recorded with the tensors and Python numbers that they were given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from workloads.core.cuda_graphs import Recorder

READS = ("_local_scalar_dense", "equal", "nonzero", "masked_select")
UNDECLARED = {"native_batch_norm": (3, 4)}
"""Positions of arguments that an operation writes to although its schema does not say so."""


class Tape(Recorder):
    """Records as a CUDA graph does: nothing is computed while it records, and a repetition runs no Python.

    It repeats the same operations on the memory of the same tensors, so that a Python number which ought to have
    changed from one step to the next, or a tensor that took the place of another, gives the wrong result. Draws come
    from where a generator stands, if it was named; draws from another one cannot be recorded.
    """

    def beside(self) -> AbstractContextManager[None]:
        return nullcontext()

    def record(self, work: Callable[[], None], *, draws: Sequence[torch.Generator] = ()) -> Callable[[], None]:
        """Record `work`.

        Raises:
            RuntimeError: if it reads a number, or draws from a generator that was not named.
        """
        states = [generator.get_state() for generator in draws]
        operations = _Operations(draws)
        try:
            with operations:
                work()
        finally:
            operations.undo()
            for generator, state in zip(draws, states, strict=True):
                generator.set_state(state)
        return operations.repeat


class _Operations(TorchDispatchMode):
    def __init__(self, draws: Sequence[torch.Generator]) -> None:
        TorchDispatchMode.__init__(self)
        self._named = [_address(generator) for generator in draws]
        self._calls: list[tuple[Any, Any, Any, Any]] = []
        self._before: dict[int, tuple[Tensor, Tensor]] = {}
        """Tensors that were written into, with their first values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket.__name__ in READS:
            raise RuntimeError(f"{func} cannot be recorded")
        generators = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Generator)]
        if any(_address(generator) not in self._named for generator in generators):
            raise RuntimeError(f"{func} draws from a generator that was not named")
        for tensor in _written(func, args, kwargs):
            self._before.setdefault(id(tensor), (tensor, tensor.detach().clone()))
        result = func(*args, **kwargs)
        self._calls.append((func, args, kwargs, result))
        return result

    @torch.no_grad()
    def undo(self) -> None:
        """Put back what was written while recording."""
        for tensor, value in self._before.values():
            tensor.copy_(value.view_as(tensor))

    @torch.no_grad()
    def repeat(self) -> None:
        """Run every operation again, with its results where they were."""
        for func, args, kwargs, recorded in self._calls:
            for old, new in zip(tree_leaves(recorded), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new.view_as(old))  # some are squeezed in place later


def _address(generator: Any) -> int:
    """What tells generators apart: an operation is given another wrapper of the same one."""
    address: int = generator._cdata
    return address


def _written(func: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    """The tensors that an operation writes to."""
    undeclared = UNDECLARED.get(func.overloadpacket.__name__, ())
    for position, argument in enumerate(func._schema.arguments):
        if position in undeclared or (argument.alias_info is not None and argument.alias_info.is_write):
            value = args[position] if position < len(args) else kwargs.get(argument.name)
            yield from (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))
