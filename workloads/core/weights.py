"""Weights that were trained elsewhere, read without ever running what a file says."""

from __future__ import annotations

import functools
import hashlib
import pickle
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from workloads.core.errors import ConfigError, DataError

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "backbone")
PREFIXES = ("module.", "_orig_mod.")
SETTLED_NS = 2_000_000_000
"""A file changed less than this long ago may change again without its time of change showing it: clocks of file
systems are coarse."""


def read_weights(file: Path) -> dict[str, Tensor]:
    """The state dict in a .safetensors, .pt or .pth file, out of its wrapping and without training prefixes.

    Raises:
        DataError: if there is no file, or it holds anything but tensors.
    """
    if not file.is_file():
        raise DataError(f"no weights at {file}: give a .safetensors, .pt or .pth file.")
    try:
        loaded: Any = (
            load_file(file)
            if file.suffix == ".safetensors"
            else torch.load(file, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise DataError(f"{file} holds no plain weights and is not opened further: {reason}") from error
    return _unprefixed(_unwrapped(loaded, file))


def _unwrapped(loaded: Any, file: Path) -> dict[str, Tensor]:
    while isinstance(loaded, Mapping) and (inner := next((loaded[own] for own in WRAPPERS if own in loaded), None)):
        loaded = inner
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(own, Tensor) for own in loaded.values()):
        raise DataError(f"{file}: no state dict was found under {', '.join(WRAPPERS)} or at the top.")
    return dict(loaded)


def _unprefixed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as the bare module has them: wrappers for parallel or compiled training put their own in front."""
    for prefix in PREFIXES * 2:
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): own for name, own in weights.items()}
    return weights


def fill(network: nn.Module, weights: Mapping[str, Tensor], *, source: str, but: tuple[str, ...] = ()) -> None:
    """Put weights into a network; those whose names begin with one of `but` keep what they have.

    Raises:
        ConfigError: if any other is missing, left over, or of another shape.
    """
    own = network.state_dict()
    wanted = {name for name in own if not name.startswith(but)} if but else set(own)
    given = {name: value for name, value in weights.items() if not (but and name.startswith(but))}
    missing = sorted(name for name in wanted - set(given) if not name.endswith("num_batches_tracked"))
    surplus = sorted(set(given) - wanted)
    shapes = [name for name in sorted(wanted & set(given)) if own[name].shape != given[name].shape]
    if missing or surplus or shapes:
        found = [f"{len(rows)} {what} ({rows[0]})" for rows, what in _named(missing, surplus, shapes) if rows]
        raise ConfigError(f"weights {source} do not fit {type(network).__name__}: {', '.join(found)}.")
    network.load_state_dict(given, strict=False)


def _named(missing: list[str], surplus: list[str], shapes: list[str]) -> tuple[tuple[list[str], str], ...]:
    return (missing, "missing"), (surplus, "left over"), (shapes, "of another shape")


def digest_of(file: Path) -> str:
    """SHA-256 of a file of weights, which is read again only when it changed.

    Raises:
        ConfigError: if there is none.
    """
    if not file.is_file():
        raise ConfigError(f"no weights at {file}: give none, imagenet or a .safetensors, .pt or .pth file")
    known = file.stat()
    settled = time.time_ns() - known.st_mtime_ns > SETTLED_NS
    digest = _digest if settled else _digest.__wrapped__
    return digest(file.absolute(), known.st_size, known.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _digest(file: Path, size: int, modified_ns: int) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def cached_file(url: str) -> Path:
    """Where torch keeps the file of a URL once it has been downloaded; nothing is downloaded here.

    Raises:
        DataError: if it is not there.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not file.is_file():
        raise DataError(f"imagenet weights are not on this machine: put {url} at {file}, or set weights: none.")
    return file
