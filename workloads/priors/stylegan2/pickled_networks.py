"""Networks out of StyleGAN2-ADA's pickles, read without running anything that such a file says.

A pickle is a program: it names functions, and the reader calls them. Here each name is looked up in one closed table of
stand-ins, and a name that is not in it ends the reading. The stand-ins only put what they are given into tuples, and
cannot be changed by the file. So a file can decide what is in those tuples, dictionaries and sets, and nothing else: no
module is imported for it, and the source code that these files carry of their networks stays a string that is ignored.
Tensors are made afterwards, from bytes that torch reads with `weights_only`, and no further than those bytes reach.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from workloads.core.errors import DataError

MALFORMED = (
    *(pickle.UnpicklingError, EOFError, AttributeError, TypeError),
    *(ValueError, IndexError, KeyError, RecursionError),
)
"""What reading a pickle raises that is cut off, damaged or made to mislead."""


@dataclass(frozen=True)
class PickledNetwork:
    """Settings it was built with, and its parameters and buffers by their dotted names."""

    settings: dict[str, Any]
    tensors: dict[str, Tensor]


def read_networks(file: Path) -> dict[str, PickledNetwork]:
    """The networks at the top of a pickle, by name: `G`, `D`, `G_ema`, as far as they are there.

    Raises:
        DataError: if the file is missing, names anything that is not needed for a network, or is built otherwise.
    """
    if not file.is_file():
        raise DataError(f"no file {file}: give a StyleGAN2-ADA network, as .pkl.")
    try:
        with file.open("rb") as stream:
            loaded = _Reader(stream, file).load()
        return {
            str(name): PickledNetwork(dict(own.state["_init_kwargs"]), dict(_tensors(own)))
            for name, own in loaded.items()
            if isinstance(own, _Module)
        }
    except MALFORMED as error:
        raise DataError(f"{file} is no pickle of StyleGAN2-ADA networks: {error}") from error


class _Storage(NamedTuple):
    """Numbers as torch wrote them."""

    data: Any


class _Stored(NamedTuple):
    """A tensor as a part of numbers."""

    storage: Any
    offset: Any
    size: Any
    stride: Any


class _Module(NamedTuple):
    """What was in a network's attributes."""

    state: Any


class _Ignored:
    """Anything that networks hold and weights do not need."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """A pickle may hand on more; that is ignored too."""


class _StandIn:
    """What a name is looked up as: it can be called, and nothing of it can be changed."""

    __slots__ = ("_make",)
    _make: Callable[..., object]

    def __init__(self, make: Callable[..., object]) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *given: object) -> object:
        return self._make(*given)

    def __setattr__(self, name: str, value: object) -> None:
        raise pickle.UnpicklingError(f"it tries to change {name} of the reader")


def _module(meta: Any) -> _Module:
    return _Module(meta["state"])


def _stored(storage: object, offset: object, size: object, stride: object, *_: object) -> _Stored:
    return _Stored(storage, offset, size, stride)


def _first(data: object, *_: object) -> object:
    return data


def _ignored(*_: object) -> _Ignored:
    return _Ignored()


STAND_INS: dict[tuple[str, str], object] = {
    ("builtins", "set"): set,
    ("collections", "OrderedDict"): dict,
    ("dnnlib.util", "EasyDict"): dict,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _StandIn(_module),
    ("torch._utils", "_rebuild_parameter"): _StandIn(_first),
    ("torch._utils", "_rebuild_tensor_v2"): _StandIn(_stored),
    ("torch.storage", "_load_from_bytes"): _StandIn(_Storage),
    ("numpy", "dtype"): _StandIn(_ignored),
    ("numpy.core.multiarray", "scalar"): _StandIn(_ignored),
    ("numpy._core.multiarray", "scalar"): _StandIn(_ignored),
}
"""All that a file may name, and what it gets. The types of Python itself cannot be changed either."""


class _Reader(pickle.Unpickler):
    def __init__(self, stream: io.BufferedReader, file: Path) -> None:
        super().__init__(stream)
        self._file = file

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in STAND_INS:
            raise DataError(
                f"{self._file} asks for {module}.{name}, which no network of StyleGAN2-ADA needs: nothing of it was "
                "run. Take the file from where the network was published, as .pkl for PyTorch."
            )
        return STAND_INS[module, name]


def _tensors(module: _Module, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for kind in ("_parameters", "_buffers"):
        for name, own in module.state[kind].items():
            if own is not None:
                yield f"{prefix}{name}", _tensor(own)
    for name, inner in module.state["_modules"].items():
        yield from _tensors(inner, f"{prefix}{name}.")


def _tensor(stored: _Stored) -> Tensor:
    """A tensor of its own memory.

    Raises:
        ValueError: if the numbers are anything else, or too few.
    """
    try:
        storage = torch.load(io.BytesIO(stored.storage.data), map_location="cpu", weights_only=True)
        numbers = torch.empty(0, dtype=storage.dtype).set_(storage)
        if math.prod(stored.size) > len(numbers):
            raise ValueError(f"a tensor of {stored.size} lies in {len(numbers)} numbers")
        return numbers.as_strided(stored.size, stored.stride, stored.offset).clone()
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(f"a tensor cannot be read: {str(error).partition(chr(10))[0]}") from error
