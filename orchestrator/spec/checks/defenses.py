"""What each defense has to accept: the images, the other defenses, the target model."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch

from orchestrator.spec.checks.building import Build, try_network
from orchestrator.spec.model import Spec
from workloads.core.randomness import generator
from workloads.defenses.base import DEFENSES, TrainingFacts
from workloads.training.classifiers import Architecture


def defense_builds(spec: Spec, target: Architecture) -> Iterator[Build]:
    """Each defense alone, beside the others, and in the target model."""
    facts = TrainingFacts(
        images=1,
        image_shape=(target.channels, target.input_size, target.input_size),
        channel_mean=torch.zeros(target.channels),
        generator=lambda *purpose: generator("validate", *purpose),
        classes=target.classes,
    )
    for index, defense in enumerate(spec.defenses):
        others = spec.defenses[:index] + spec.defenses[index + 1 :]
        field = ("defenses", index)
        yield Build(field, functools.partial(DEFENSES.build, defense, facts=facts))
        yield Build(field, functools.partial(defense.check_combination, others))
        defended = target.model_copy(update={"defenses": (defense,)})
        yield Build(field, functools.partial(try_network, defended, defense.check_training))
