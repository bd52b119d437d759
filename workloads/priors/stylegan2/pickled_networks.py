"""Networks from StyleGAN2-ADA's pickles, read without executing anything in the file.

A pickle is a program: it names functions, and the reader calls them. Here each name is looked up in one closed table of
stand-ins, and a name that is not in the table ends the reading. The stand-ins only put their arguments into tuples, and
the file cannot change them. So a file controls the content of those tuples, dictionaries and sets, and nothing else: no
module is imported for it, and the source code of the networks that these files carry stays a string that is ignored.
Tensors are built afterwards, from bytes that torch reads with `weights_only`, and never beyond the end of those bytes.
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
"""Errors that reading a truncated, damaged or malicious pickle can raise."""


@dataclass(frozen=True)
class PickledNetwork:
    """The settings a network was built with, and its parameters and buffers by dotted name."""

    settings: dict[str, Any]
    tensors: dict[str, Tensor]


def read_networks(file: Path) -> dict[str, PickledNetwork]:
    """Read the networks at the top level of a pickle, by name: those of `G`, `D` and `G_ema` that it holds.

    Raises:
        DataError: if the file is missing, names anything that a network does not need, or has another structure.
    """
    if not file.is_file():
        raise DataError(f"no file {file}: give a StyleGAN2-ADA network, as .pkl.")
    try:
        with file.open("rb") as stream:
            loaded = _Reader(stream, file).load()
        return {
            str(name): PickledNetwork(dict(module.state["_init_kwargs"]), dict(_tensors(module)))
            for name, module in loaded.items()
            if isinstance(module, _Module)
        }
    except MALFORMED as error:
        raise DataError(f"{file} is no pickle of StyleGAN2-ADA networks: {error}") from error


class _Storage(NamedTuple):
    """The bytes of a torch storage."""

    data: Any


class _Stored(NamedTuple):
    """A tensor, as a view of a storage."""

    storage: Any
    offset: Any
    size: Any
    stride: Any


class _Module(NamedTuple):
    """The attributes of a network."""

    state: Any


class _Ignored:
    """Stands for anything that a network holds and weights do not need."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Ignore the state that a pickle sets."""


class _StandIn:
    """What a name in the file stands for: it can be called, and the file cannot change it."""

    __slots__ = ("_make",)
    _make: Callable[..., object]

    def __init__(self, make: Callable[..., object]) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *arguments: object) -> object:
        return self._make(*arguments)

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


STAND_INS: dict[tuple[str, str], Callable[..., object]] = {
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
"""All names that a file may use, and what they give it. Python's built-in types cannot be changed either."""


class _Reader(pickle.Unpickler):
    def __init__(self, stream: io.BufferedReader, file: Path) -> None:
        super().__init__(stream)
        self._file = file

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        if (module, name) not in STAND_INS:
            raise DataError(
                f"{self._file} asks for {module}.{name}, which no network of StyleGAN2-ADA needs: nothing of it was "
                "run. Take the file from where the network was published, as .pkl for PyTorch."
            )
        return STAND_INS[module, name]


def _tensors(module: _Module, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for kind in ("_parameters", "_buffers"):
        for name, stored in module.state[kind].items():
            if stored is not None:
                yield f"{prefix}{name}", _tensor(stored)
    for name, inner in module.state["_modules"].items():
        yield from _tensors(inner, f"{prefix}{name}.")


def _tensor(stored: _Stored) -> Tensor:
    """Build a tensor that owns its memory.

    Raises:
        ValueError: if the storage cannot be read or is too small.
    """
    try:
        storage = torch.load(io.BytesIO(stored.storage.data), map_location="cpu", weights_only=True)
        numbers = torch.empty(0, dtype=storage.dtype).set_(storage)
        if math.prod(stored.size) > len(numbers):
            raise ValueError(f"a tensor of {stored.size} lies in {len(numbers)} numbers")
        return numbers.as_strided(stored.size, stored.stride, stored.offset).clone()
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(f"a tensor cannot be read: {str(error).partition(chr(10))[0]}") from error
