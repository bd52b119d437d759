"""A target model that can only be asked: whether it answers as stated, and which attacks may ask it, how often."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from orchestrator.spec.checks.building import Build, without_weights
from orchestrator.spec.checks.checkpoint import refuse_defenses
from orchestrator.spec.model import Spec
from orchestrator.spec.target import BlackBoxTarget, ServiceTarget, TargetConfig, answers_floors, source_field
from workloads.black_boxes.box import BlackBoxConfig
from workloads.black_boxes.meter import QueryMeter, TokenBucket
from workloads.black_boxes.stored import BlackBoxDescription
from workloads.core.errors import ConfigError
from workloads.datasets.base import DATASETS
from workloads.inversion.attack import ATTACKS, AttackConfig, SearchConfig
from workloads.inversion.identity_choice import count_of
from workloads.observation.oracles import ScoreOracle
from workloads.priors.base import PRIORS
from workloads.training.classifiers import Architecture

PROBES = 2
"""Images of noise that it is asked about, twice."""


def black_box_builds(spec: Spec, target: Architecture) -> Iterator[Build]:
    """Its answers to a few images, what each attack asks of it and how often, and defenses, which it cannot have."""
    if isinstance(spec.target, TargetConfig):
        return
    yield Build(source_field(spec.target), functools.partial(_answers, spec))
    yield Build(("defenses",), functools.partial(refuse_defenses, spec, "a black box"))
    for index, attack in enumerate(spec.attacks):
        config = attack.with_prior(spec.prior)
        for member in config.members():
            yield Build(("attacks", index), functools.partial(_check_access, spec.target, member))
        if isinstance(spec.target, ServiceTarget) and spec.target.budget is not None:
            check = functools.partial(_check_budget, spec, config, spec.target.budget, target)
            yield Build(("attacks", index), without_weights(check))


def black_box_notes(spec: Spec) -> Iterator[str]:
    """Whether it answers the same when asked again, in a sentence if not."""
    if isinstance(spec.target, TargetConfig):
        return
    if spec.floors and not answers_floors(spec.target):
        yield "floors: none are measured: they are chosen by scores, and a budget of queries is left to attacks."
    answers = _answers(spec)
    if not torch.equal(answers.first, answers.again):
        change = (answers.first.softmax(1) - answers.again.softmax(1)).abs().max().item()
        yield (
            f"{'.'.join(source_field(spec.target))}: asked again about the same images it answers otherwise, by up to "
            f"{change:.2g} in probability: results are those of one run, and another will differ."
        )


@dataclass(frozen=True)
class _Answers:
    """What a black box says of the same images, twice. Shape: (PROBES, classes) logits each."""

    first: Tensor
    again: Tensor


def _answers(spec: Spec) -> _Answers:
    """Ask about a few images, once in a process.

    Raises:
        MidreError: if it cannot be loaded or found, or answers otherwise than stated.
    """
    private = spec.data.private
    assert not isinstance(spec.target, TargetConfig)
    names = DATASETS.build(private).names()
    return _asked_twice(spec.target, names, private.channels, private.image_size)


@functools.lru_cache(maxsize=16)
def _asked_twice(target: BlackBoxTarget, names: tuple[str, ...], channels: int, size: int) -> _Answers:
    limits = target.limits if isinstance(target, ServiceTarget) else None
    meter = QueryMeter(bucket=TokenBucket(limits.rate)) if limits is not None and limits.rate is not None else None
    description = BlackBoxDescription(source=target.source, names=names, channels=channels)
    box = description.build(device=torch.device("cpu"), limits=limits, meter=meter)
    noise = torch.rand(PROBES, channels, size, size, generator=torch.Generator().manual_seed(0))
    return _Answers(box(noise), box(noise))


def _check_access(target: BlackBoxConfig, member: AttackConfig) -> None:
    """Refuse an attack that has to know more than the answers.

    Raises:
        ConfigError: naming the attacks that have not.
    """
    asks = ATTACKS.build(member).oracle_type
    if not issubclass(target.access, asks):
        raise ConfigError(
            f"{member.label} asks for more of the target model ({asks.access}) than this one answers "
            f"({target.access.access}). Attacks that can: {', '.join(_possible(target))}."
        )
    if any(surrogate.answers == "scores" for surrogate in member.surrogates) and target.access is not ScoreOracle:
        raise ConfigError(f"{member.label} trains surrogates on scores, but this target model gives labels only.")


def _possible(target: BlackBoxConfig) -> Iterator[str]:
    """Attacks that are content with the answers, with the settings that make them so."""
    for kind in ATTACKS.kinds():
        config = ATTACKS.config_of(kind)
        if issubclass(config, SearchConfig):
            attack = ATTACKS.class_of(config.model_construct(kind=kind))
            if issubclass(target.access, attack.oracle):
                yield f"{kind} ({attack.milder})" if attack.milder else kind


def _check_budget(spec: Spec, attack: AttackConfig, budget: int, target: Architecture) -> None:
    """Refuse an attack of which it is known that it asks more often than it may.

    Raises:
        ConfigError: with how often it does.
    """
    images = sum(DATASETS.build(spec.data.public).sizes().values())
    identities = count_of(attack.identities, target.classes)
    planned = sum(_planned(member, identities, images, target) for member in attack.members())
    if attack.parts():  # it asks about what they rebuilt, too
        planned += ATTACKS.build(attack).planned_queries(identities)
    if planned > budget:
        raise ConfigError(
            f"{attack.label} asks the target model about {planned:,} images at least, with its prior and surrogates, "
            f"above the budget of {budget:,}: raise target.budget or lower the attack's settings."
        )


def _planned(member: AttackConfig, identities: int, images: int, target: Architecture) -> int:
    """Images that an attack, its prior and its surrogates ask about in any case."""
    planned = ATTACKS.build(member).planned_queries(identities)
    for surrogate in member.surrogates:
        planned += surrogate.generated_per_class * target.classes if surrogate.generated_per_class else images
    if member.prior is not None:
        shape = {"channels": target.channels, "image_size": target.image_size, "classes": target.classes}
        planned += PRIORS.build(member.prior, **shape).planned_queries(images)
    return planned
