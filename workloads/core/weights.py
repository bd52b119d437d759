"""Weights that were trained elsewhere, read without ever executing anything in the file."""

from __future__ import annotations

import functools
import hashlib
import pickle
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from workloads.core.config import FrozenConfig, Location
from workloads.core.errors import ConfigError, DataError

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "backbone")
"""Keys under which training codes store a state dict beside other things."""
PREFIXES = ("module.", "_orig_mod.")
"""What wrappers for parallel and for compiled training put in front of each name."""
LIGHTNING = "pytorch-lightning_version"
"""Key by which checkpoints of Lightning are known; beside the network's weights they may hold those of metrics."""
LIGHTNING_PREFIXES = ("model.", "net.", "network.", "backbone.")
"""Attributes under which modules of Lightning hold their network, usually."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How the text begins that stands for a file which Git LFS has not fetched."""
SETTLED_NS = 2_000_000_000
"""A file changed less than this long ago may change again without its time of change showing it: clocks of file
systems are coarse."""


class WeightsFileConfig(FrozenConfig):
    """Mixin for a config that can name a file of weights; its contents enter the key, its path does not."""

    weights: Annotated[str, Location()] = "none"
    """File of weights to begin with, relative to the spec file; `none` for none."""
    weights_digest: str | None = None
    """SHA-256 of the file of weights. Filled in while the config is read; never set it by hand."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_digest(cls, settings: Any) -> Any:
        weights = settings.get("weights") if isinstance(settings, dict) else None
        if not isinstance(weights, str) or weights == "none":
            return settings
        return {**settings, "weights_digest": cls.identify_weights(weights)}

    @classmethod
    def identify_weights(cls, weights: str) -> str:
        """Text that stands for the contents of `weights` in a key.

        Raises:
            ConfigError: if these weights cannot be used.
        """
        return digest_of(Path(weights))


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read the state dict in a .safetensors, .pt or .pth file, without wrappers around it and prefixes of training.

    Raises:
        DataError: if there is no file, it holds anything but tensors, or one of them is not finite.
    """
    if not file.is_file():
        raise DataError(f"no weights at {file}: give a .safetensors, .pt or .pth file.")
    with file.open("rb") as stream:
        if stream.read(len(LFS_POINTER)) == LFS_POINTER:
            raise DataError(f"{file} is a Git LFS pointer, not weights: run `git lfs pull`.")
    weights = _without_prefixes(_state_dict(_load(file), file))
    for name, weight in weights.items():
        if weight.is_floating_point() and not weight.isfinite().all():
            raise DataError(f"{file}: {name} holds numbers that are not finite: its training diverged, take another.")
    return weights


def _load(file: Path) -> object:
    """What a file holds, as long as it is nothing but tensors and plain data."""
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise DataError(f"{file} {_why_not_opened(file, error)}") from error


def _why_not_opened(file: Path, error: Exception) -> str:
    """What a file is, if not plain weights, and what to do; torch's message would advise to unpickle it."""
    if "TorchScript" in str(error):
        return "is a TorchScript program, not weights: save the state_dict() of its model."
    if file.suffix == ".pt2":
        return "is an exported program, not weights: save the state_dict() of its model."
    classes = _pickled_classes(file) if isinstance(error, pickle.UnpicklingError) else []
    if any(name.startswith("torch.nn.modules.") for name in classes):
        return "is a whole pickled model, which is never opened: save model.state_dict() and give that."
    reason = f"it pickles {classes[0]}: save a state_dict() alone" if classes else "torch.save did not write it"
    if isinstance(error, SafetensorError):
        reason = str(error).partition("\n")[0][:200]
    return f"holds no plain weights and is not opened further: {reason}."


def _pickled_classes(file: Path) -> list[str]:
    """Names of what a file would import if it were unpickled, sorted; nothing is imported."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError):
        return []


def _state_dict(loaded: object, file: Path) -> dict[str, Tensor]:
    """Find the state dict, at the top of what was loaded or inside wrappers."""
    is_lightning = isinstance(loaded, Mapping) and LIGHTNING in loaded
    while isinstance(loaded, Mapping) and (inner := next((loaded[key] for key in WRAPPERS if key in loaded), None)):
        loaded = inner
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise DataError(f"{file}: no state dict was found under {', '.join(WRAPPERS)} or at the top.")
    return _network_of_lightning(dict(loaded)) if is_lightning else dict(loaded)


def _network_of_lightning(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the network alone, without the prefix of its attribute."""
    prefix = next((prefix for prefix in LIGHTNING_PREFIXES if any(name.startswith(prefix) for name in weights)), "")
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def _without_prefixes(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove prefixes that all names share, in whichever order they were put on."""
    for prefix in (*PREFIXES, *LIGHTNING_PREFIXES) * 2:
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): weight for name, weight in weights.items()}
    return weights


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], *, source: str, skip: tuple[str, ...] = ()) -> None:
    """Load weights into a network; entries whose names begin with one of `skip` keep what they have.

    A network on the meta device is compared with the weights and not changed.

    Raises:
        ConfigError: if any other is missing, left over, or of another shape; it names `source`.
    """
    current = {name: value for name, value in network.state_dict().items() if not name.startswith(skip)}
    new = {name: value for name, value in weights.items() if not name.startswith(skip)}
    problems = {
        "missing": sorted(name for name in set(current) - set(new) if not name.endswith("num_batches_tracked")),
        "left over": sorted(set(new) - set(current)),
        "of another shape": [
            name for name in sorted(set(current) & set(new)) if current[name].shape != new[name].shape
        ],
    }
    if any(problems.values()):
        listed = ", ".join(f"{len(names)} {problem} ({names[0]})" for problem, names in problems.items() if names)
        for name in problems["of another shape"][:1]:
            listed += f": {name} is {_shape(new[name])} there and {_shape(current[name])} here"
        raise ConfigError(f"weights {source} do not fit {type(network).__name__}: {listed}.")
    if not any(value.is_meta for value in current.values()):
        network.load_state_dict(new, strict=False)


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"


def digest_of(file: Path) -> str:
    """SHA-256 of a file of weights, which is read again only when it changed.

    Raises:
        ConfigError: if there is none.
    """
    if not file.is_file():
        raise ConfigError(f"no weights at {file}: give none, imagenet or a .safetensors, .pt or .pth file")
    status = file.stat()
    is_settled = time.time_ns() - status.st_mtime_ns > SETTLED_NS
    read = _digest if is_settled else _digest.__wrapped__
    return read(file.absolute(), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _digest(file: Path, size: int, modified_ns: int) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def cached_file(url: str) -> Path:
    """Where torch keeps the file of a URL once it has been downloaded; this never downloads.

    Raises:
        DataError: if it is not there.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not file.is_file():
        raise DataError(f"imagenet weights are not on this machine: put {url} at {file}, or set weights: none.")
    return file
