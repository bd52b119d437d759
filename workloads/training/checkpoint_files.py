"""A classifier that somebody else trained: its weights, last layer included, as a network of this project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import torch
from pydantic import PositiveFloat
from torch import Tensor

from workloads.core.config import FrozenConfig, Location
from workloads.core.errors import ConfigError, DataError
from workloads.core.weights import digest_of, load_weights, read_weights
from workloads.models.base import Classifier
from workloads.training.class_names import outputs_of
from workloads.training.classifiers import Architecture

HEAD = ("head.weight", "head.bias")
"""Entries whose rows are the outputs, one a class."""


class CheckpointFile(FrozenConfig):
    """A file of weights, by its path and by what it holds."""

    file: Annotated[str, Location()]
    """Path of the file."""
    digest: str
    """SHA-256 of the file."""

    @classmethod
    def at(cls, path: str) -> CheckpointFile:
        """The file at a path, as it is now.

        Raises:
            ConfigError: if there is none.
        """
        return cls(file=path, digest=digest_of(Path(path)))


class CheckpointConfig(FrozenConfig):
    """A trained classifier in a file, and what the file does not say of it."""

    checkpoint: CheckpointFile
    """The file."""
    classes: tuple[str, ...] | None = None
    """Names of its outputs in their order; None if that is the order of the identities."""
    mean: tuple[float, ...] | None = None
    """Mean of each channel, subtracted from images in [0, 1]; None for that of the file, or else of the model."""
    std: tuple[PositiveFloat, ...] | None = None
    """Standard deviation of each channel, by which they are divided; None likewise."""


def read_classifier(settings: CheckpointConfig, architecture: Architecture, names: Sequence[str]) -> Classifier:
    """The classifier in a file, its outputs in the order of `names`, the identities of the private data.

    On torch's meta device (`with torch.device("meta")`) the file is compared with the network, and nothing is loaded.

    Raises:
        ConfigError: if the weights do not fit the network, or its classes are not the identities.
        DataError: if the file is no plain weights, or changed since it was named.
    """
    file = Path(settings.checkpoint.file)
    model = architecture.build()
    if digest_of(file) != settings.checkpoint.digest:
        raise DataError(f"{file} changed since this sweep was planned: start it again.")
    weights = model.named_as_here(read_weights(file))
    _check_classes(weights, settings.classes, names, file)
    if settings.classes is not None:
        rows = torch.tensor(outputs_of(settings.classes, names), device="cpu")
        weights |= {name: weights[name][rows] for name in HEAD if name in weights}
    weights |= _normalisation(settings, model)
    unstated = tuple({"mean", "std"} - weights.keys())
    load_weights(model, weights, source=str(file), skip=unstated)
    return model


def _check_classes(
    weights: Mapping[str, Tensor], classes: Sequence[str] | None, names: Sequence[str], file: Path
) -> None:
    """Refuse a classifier that does not tell apart exactly the identities there are."""
    outputs = len(weights["head.weight"]) if "head.weight" in weights else len(names)
    if classes is None and outputs != len(names):
        raise ConfigError(
            f"{file} tells {outputs} classes apart, but data.private has {len(names)} identities: name those of the "
            "classes, in their order, as data.private.identities."
        )
    if classes is not None and len(classes) != outputs:
        raise ConfigError(f"classes names {len(classes)}, but {file} tells {outputs} apart: name each once.")


def _normalisation(settings: CheckpointConfig, model: Classifier) -> dict[str, Tensor]:
    """Mean and standard deviation as they are stated, by the names of the network's entries."""
    channels = len(model.mean)
    stated: dict[str, Tensor] = {}
    for name, values in (("mean", settings.mean), ("std", settings.std)):
        if values is None:
            continue
        if len(values) != channels:
            raise ConfigError(f"{name} has {len(values)} numbers, but images have {channels} channels: give one each.")
        stated[name] = torch.tensor(values, device="cpu")[:, None, None]
    return stated
