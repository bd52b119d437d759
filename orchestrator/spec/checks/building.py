"""What a spec asks for, built without memory for weights to see whether it refuses its settings."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch

from orchestrator.spec.checks.problem import FieldProblem
from orchestrator.spec.yaml_source import FieldPath
from workloads.core.errors import MidreError
from workloads.models.base import Classifier, check_trains
from workloads.training.classifiers import Architecture

SMALL_WEIGHTS = 10_000_000
"""Weights of a network that is tried on the CPU: that takes less time than to import what the meta device runs on."""
SMALL_IMAGES = 64
"""Side in pixels of the images of such a network."""


@dataclass(frozen=True)
class Build:
    """A part of a spec that has to be built, or a check that it has to pass."""

    field: FieldPath
    """The field that is at fault if it cannot be built."""
    build: Callable[[], object]
    """Builds it, or raises a MidreError."""

    def problem(self) -> FieldProblem | None:
        """Why it cannot be built; None if it can."""
        message = refusal(self.build)
        return None if message is None else FieldProblem(self.field, message)


def refusal(build: Callable[[], object]) -> str | None:
    """The message with which something refuses to be built; None if it can be."""
    try:
        build()
    except MidreError as error:
        return str(error)
    except RuntimeError as error:  # torch raises it for sizes beyond any memory
        return f"cannot be built: {str(error).partition(chr(10))[0]}."
    return None


@functools.lru_cache(maxsize=256)
def check_trainable(architecture: Architecture) -> None:
    """Build a network and try it in training mode; one that has passed is not tried again.

    Raises:
        ConfigError: if it cannot be built or trained.
    """
    try_network(architecture, check_trains)


def try_network(architecture: Architecture, check: Callable[[Classifier], None]) -> None:
    """Build a network and check it: a large one without memory for weights, a small one with, as that is faster.

    Raises:
        ConfigError: if it cannot be built, or the check raises it.
    """
    with torch.device("meta"):
        model = architecture.build()
        weights = sum(weight.numel() for weight in model.parameters())
        if weights > SMALL_WEIGHTS or model.image_size > SMALL_IMAGES:
            check(model)
            return
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        check(architecture.build())


def check_start(architecture: Architecture) -> None:
    """Read the weights that training of a network begins with, if it has any, and compare them with the network.

    Raises:
        ConfigError: if they do not fit.
        DataError: if they are not there, or are no plain weights.
    """
    if architecture.model.weights != "none":
        with torch.device("meta"):
            model = architecture.build()
        model.start_from(architecture.model)


def without_weights(build: Callable[[], object]) -> Callable[[], object]:
    """The same on torch's meta device, where tensors have shapes and no memory."""

    def build_on_meta() -> object:
        with torch.device("meta"):
            return build()

    return build_on_meta
