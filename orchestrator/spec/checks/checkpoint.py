"""A target model that somebody else trained: whether its file fits the spec, and what is not known of it."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from orchestrator.spec.checks.building import Build
from orchestrator.spec.model import Spec
from workloads.core.errors import ConfigError
from workloads.datasets.base import DATASETS
from workloads.training.checkpoint_files import read_classifier
from workloads.training.classifiers import Architecture


def checkpoint_builds(spec: Spec, target: Architecture) -> Iterator[Build]:
    """The file compared with the network and with the identities, and the defenses, which it cannot have."""
    source = spec.target.source
    if source is None:
        return

    def compare() -> None:
        with torch.device("meta"):
            read_classifier(source, target, DATASETS.build(spec.data.private).names())

    def refuse_defenses() -> None:
        if spec.defenses:
            raise ConfigError("defenses act in training, which a checkpoint has behind it: leave them out.")

    yield Build(("target", "checkpoint"), compare)
    yield Build(("defenses",), refuse_defenses)


def checkpoint_notes(spec: Spec) -> Iterator[str]:
    """What is not known of a model that was trained elsewhere, in sentences."""
    if spec.target.source is None:
        return
    yield (
        "target.checkpoint: which images it was trained on is not known: natural accuracy is that on the images that "
        "data.split holds out, which it may have seen."
    )
    if len(spec.search.seeds) > 1:
        yield "search.seeds: a checkpoint is not trained, so that all seeds give the same numbers: one is enough."
