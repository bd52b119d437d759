"""A target model that somebody else trained: whether its file fits the spec, and what is not known of it."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch

from orchestrator.spec.checks.building import Build
from orchestrator.spec.model import Spec
from orchestrator.spec.target import TargetConfig, source_field
from workloads.core.errors import ConfigError
from workloads.datasets.base import DATASETS
from workloads.training.checkpoint_files import read_classifier
from workloads.training.classifiers import Architecture


def checkpoint_builds(spec: Spec, target: Architecture) -> Iterator[Build]:
    """The file compared with the network and with the identities, and the defenses, which it cannot have."""
    source = spec.target.source if isinstance(spec.target, TargetConfig) else None
    if source is None:
        return

    def compare() -> None:
        with torch.device("meta"):
            read_classifier(source, target, DATASETS.build(spec.data.private).names())

    yield Build(("target", "checkpoint"), compare)
    yield Build(("defenses",), functools.partial(refuse_defenses, spec, "a checkpoint"))


def refuse_defenses(spec: Spec, target: str) -> None:
    """Refuse defenses of a target model that is not trained here; `target` says what it is.

    Raises:
        ConfigError: if there are any.
    """
    if spec.defenses:
        raise ConfigError(f"defenses act in training, which {target} has behind it: leave them out.")


def checkpoint_notes(spec: Spec) -> Iterator[str]:
    """What is not known of a model that was trained elsewhere, in sentences."""
    if spec.target.source is None:
        return
    yield (
        f"{'.'.join(source_field(spec.target))}: which images it was trained on is not known: natural accuracy is that "
        "on the images that data.split holds out, which it may have seen."
    )
    if len(spec.search.seeds) > 1:
        yield "search.seeds: a model that is there is not trained: all seeds give the same numbers, one is enough."
