"""What passes between host and device, counted without a device: torch's meta device stands in for a GPU."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.fx.experimental import _config as meta_rules
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.support.paths import ROOT

DEVICE = torch.device("meta")
"""The device to run on: a tensor on it has a shape and no numbers."""
READS = frozenset(
    {
        *("_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive"),
        "_linalg_check_errors",  # the check of `inv`, `solve` and their like, which `inv_ex` and `solve_ex` leave out
    }
)
"""Operations of ATen for which the host waits until the device has their result."""
INDEXING = frozenset({"index", "index_put", "index_put_", "_index_put_impl_"})
"""Operations that take indices from the host, and wait for the number of places that a mask selects."""
NEW_TENSORS = (torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor)
"""Functions that make tensors from Python's numbers."""


@dataclass
class DeviceTraffic:
    """Counts what code under test does that a GPU would have to wait for.

    Tensors on `DEVICE` count as the GPU's, all others as the host's; what is read from the device is zeros. Each list
    holds operations and the lines of the project they came from, so that a failing comparison with `[]` says where.

    >>> with traffic_counted() as traffic:
    ...     step(model.to(DEVICE))
    >>> assert traffic.reads == []
    """

    reads: list[str] = field(default_factory=list)
    """Copies from device to host, and results that the host waited for."""
    copies: list[str] = field(default_factory=list)
    """Copies from host to device."""
    generators: list[str] = field(default_factory=list)
    """Generators of random numbers, torch's and NumPy's, that were made."""
    unnamed_draws: list[str] = field(default_factory=list)
    """Random numbers that the device drew from its global generator."""

    def add(self, other: DeviceTraffic) -> None:
        """Add what was counted elsewhere."""
        self.reads += other.reads
        self.copies += other.copies
        self.generators += other.generators
        self.unnamed_draws += other.unnamed_draws

    def clear(self) -> None:
        """Forget what was counted, such as the setup before the first step."""
        for events in (self.reads, self.copies, self.generators, self.unnamed_draws):
            events.clear()


@contextmanager
def traffic_counted() -> Iterator[DeviceTraffic]:
    """Count while the block runs.

    Raises:
        AssertionError: where an operation mixes tensors of host and device, which a GPU refuses.
    """
    traffic = DeviceTraffic()
    with ExitStack() as stack:
        stack.enter_context(patch.object(meta_rules, "meta_nonzero_assume_all_nonzero", True))
        stack.enter_context(patch.object(torch, "Generator", _counted_generator(traffic)))
        numpy_generator = np.random.default_rng
        stack.enter_context(patch.object(np.random, "default_rng", _counting(numpy_generator, traffic.generators)))
        stack.enter_context(_Functions(traffic))
        stack.enter_context(_Operations(traffic))
        yield traffic


class _Operations(TorchDispatchMode):
    """Sees every operation of ATen, backward passes and optimisers included."""

    def __init__(self, traffic: DeviceTraffic) -> None:
        TorchDispatchMode.__init__(self)
        self._traffic = traffic

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operation = func.overloadpacket.__name__
        leaves = tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        named = any(isinstance(leaf, torch._C.Generator) for leaf in leaves)
        if torch.Tag.nondeterministic_seeded in func.tags and not named:
            on_device = kwargs.get("device") == DEVICE or any(tensor.is_meta for tensor in tensors)
            self._traffic.unnamed_draws += [_at(operation)] * on_device
        if operation in ("_to_copy", "copy_"):
            return self._copy(func, operation, tensors, args, kwargs)
        if any(tensor.is_meta for tensor in tensors):
            self._count_reads(operation, args)
            self._count_host_tensors(operation, tensors)
        if operation == "_local_scalar_dense" and args[0].is_meta:
            return torch.zeros((), dtype=args[0].dtype).item()
        return True if operation == "equal" and args[0].is_meta else func(*args, **kwargs)

    def _copy(self, func: Any, operation: str, tensors: list[Tensor], args: Any, kwargs: Any) -> Any:
        """Count a copy that changes the device; what comes from the device is zeros."""
        source = tensors[-1]
        device = tensors[0].device if operation == "copy_" else torch.device(kwargs.get("device") or source.device)
        if source.is_meta and device != DEVICE:
            self._traffic.reads.append(_at(operation))
            dtype = kwargs.get("dtype") or source.dtype
            return args[0].zero_() if operation == "copy_" else torch.zeros(source.shape, dtype=dtype, device=device)
        if device == DEVICE and not source.is_meta:
            self._traffic.copies.append(_at(operation))
        return func(*args, **kwargs)

    def _count_reads(self, operation: str, args: Any) -> None:
        masks = operation in INDEXING and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        self._traffic.reads += [_at(operation)] * (operation in READS or masks)

    def _count_host_tensors(self, operation: str, tensors: list[Tensor]) -> None:
        """Count indices of the host; numbers of the host, without dimensions, pass as arguments of a kernel."""
        from_host = [tensor for tensor in tensors if not tensor.is_meta and tensor.ndim]
        assert not from_host or operation in INDEXING, f"{_at(operation)} mixes tensors of host and device"
        self._traffic.copies += [_at(operation)] * len(from_host)


class _Functions(TorchFunctionMode):
    """Sees new tensors of Python's numbers, which reach ATen only once they are on the device."""

    def __init__(self, traffic: DeviceTraffic) -> None:
        TorchFunctionMode.__init__(self)
        self._traffic = traffic

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in NEW_TENSORS and result.is_meta and not (isinstance(args[-1], Tensor) and args[-1].is_meta):
            self._traffic.copies.append(_at(func.__name__))
        return result


def _counted_generator(traffic: DeviceTraffic) -> type[torch.Generator]:
    class CountedGenerator(torch.Generator):
        """A generator whose making is counted."""

        def __init__(self, device: torch.device | str = "cpu") -> None:
            super().__init__()  # the device is an argument of torch's `__new__` alone
            traffic.generators.append(_at("Generator"))

    return CountedGenerator


def _counting(function: Any, events: list[str]) -> Any:
    def counted(*args: Any, **kwargs: Any) -> Any:
        events.append(_at(function.__name__))
        return function(*args, **kwargs)

    return counted


def _at(operation: str) -> str:
    """The operation and the innermost line of the project outside of this file."""
    frame = sys._getframe(1)
    while frame.f_back and (frame.f_code.co_filename == __file__ or str(ROOT) not in frame.f_code.co_filename):
        frame = frame.f_back
    return f"{operation} at {frame.f_code.co_filename.removeprefix(f'{ROOT}/')}:{frame.f_lineno}"
