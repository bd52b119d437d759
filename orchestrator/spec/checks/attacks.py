"""What each attack has to accept: its prior, the number of classes, the target model, its surrogates."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from orchestrator.spec.checks.building import Build, check_start, check_trainable, refusal, without_weights
from orchestrator.spec.model import Spec
from orchestrator.spec.target import TargetConfig
from workloads.core.errors import MidreError
from workloads.datasets.base import DATASETS
from workloads.inversion.attack import ATTACKS, AttackConfig
from workloads.inversion.identity_choice import chosen
from workloads.models.base import Classifier
from workloads.priors.base import PRIORS, Prior, PriorConfig
from workloads.training.classifiers import Architecture


def attack_builds(spec: Spec, target: Architecture) -> Iterator[Build]:
    """Each attack with its prior, and for a battery each of its attacks."""
    build_prior = functools.partial(_build_prior, target)
    shared_is_refused = spec.prior is not None and refusal(without_weights(lambda: build_prior(spec.prior))) is not None
    target_model = functools.cache(functools.partial(_defended_target, spec, target))

    def check(member: AttackConfig) -> None:
        attack = ATTACKS.build(member)
        attack.check(prior=build_prior(member.prior), classes=target.classes)
        if (model := target_model()) is not None:
            attack.check_target(model)
        for surrogate in member.surrogates:
            check_trainable(target.model_copy(update={"model": surrogate.model}))

    names = DATASETS.build(spec.data.private).names()
    for index, config in enumerate(spec.attacks):
        field = ("attacks", index)
        if isinstance(config.identities, tuple):
            yield Build(field, functools.partial(chosen, config.identities, names))
        members = config.with_prior(spec.prior).members()
        if config.parts():
            battery = ATTACKS.build(config)
            yield Build(field, functools.partial(battery.check, prior=None, classes=target.classes))
            members = tuple(member.attacking(None) for member in members)  # whom they attack is the battery's to say
        for member in members:
            if shared_is_refused and member.prior == spec.prior:
                continue  # the refusal is reported once, at the prior
            yield Build(field, without_weights(functools.partial(check, member)))
            for surrogate in member.surrogates:
                yield Build(field, functools.partial(check_start, target.model_copy(update={"model": surrogate.model})))


def _build_prior(target: Architecture, config: PriorConfig | None) -> Prior | None:
    """The prior for images of the target model's data set."""
    if config is None:
        return None
    return PRIORS.build(config, channels=target.channels, image_size=target.image_size, classes=target.classes)


def _defended_target(spec: Spec, target: Architecture) -> Classifier | None:
    """The target model with its defenses; None for a black box, and if it cannot be built, which is reported there."""
    if not isinstance(spec.target, TargetConfig):
        return None
    try:
        return target.model_copy(update={"defenses": spec.defenses}).build()
    except (MidreError, RuntimeError):
        return None
