"""CUDA graphs without CUDA: operations are recorded with the tensors and Python numbers that they were given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from workloads.inversion.captured_step import Recorder

READS = ("_local_scalar_dense", "equal", "nonzero", "masked_select")


class Tape(Recorder):
    """Records as a CUDA graph does: nothing is computed while it records, and a repetition runs no Python.

    It repeats the same operations on the memory of the same tensors, so that a Python number which ought to have
    changed from one step to the next, or a tensor that took the place of another, gives the wrong result.
    """

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record `work`.

        Raises:
            RuntimeError: if it reads a number.
        """
        operations = _Operations()
        with operations:
            work()
        operations.undo()
        return operations.repeat


class _Operations(TorchDispatchMode):
    def __init__(self) -> None:
        TorchDispatchMode.__init__(self)
        self._calls: list[tuple[Any, Any, Any, Any]] = []
        self._before: dict[int, tuple[Tensor, Tensor]] = {}
        """Tensors that were written into, with their first values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket.__name__ in READS:
            raise RuntimeError(f"{func} cannot be recorded")
        if func._schema.is_mutable:
            self._before.setdefault(id(args[0]), (args[0], args[0].detach().clone()))
        result = func(*args, **kwargs)
        self._calls.append((func, args, kwargs, result))
        return result

    @torch.no_grad()
    def undo(self) -> None:
        """Put back what was written while recording."""
        for tensor, value in self._before.values():
            tensor.copy_(value)

    @torch.no_grad()
    def repeat(self) -> None:
        """Run every operation again, with its results where they were."""
        for func, args, kwargs, recorded in self._calls:
            for old, new in zip(tree_leaves(recorded), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)
