"""Every attack by gradients at settings that make it short, each with a tiny prior that suits it."""

from __future__ import annotations

from typing import Any

import torch

from tests.support.components import config_for
from tests.support.golden_networks import IDENTITIES, golden_networks
from tests.support.staged_networks import TinyStaged
from workloads.attacks.lomma import GmiHost
from workloads.core.errors import ConfigError
from workloads.inversion.attack import ATTACKS, Attack
from workloads.observation.oracles import WhiteBoxOracle
from workloads.priors.base import Prior

SMALL: dict[str, Any] = {
    **{"restarts": 1, "keep": 1, "steps": 2, "pool": 8, "draws": 1, "samples": 2, "images": 2, "selection_views": 1},
    **{"stage_steps": (1, 1), "blocks": 2, "hidden": 4, "warmup": 1, "public_statistics": 2, "distillation": None},
    "host": GmiHost(restarts=1, steps=2),
}
"""Settings that make an attack short, whatever attack has them."""


def short_attacks() -> list[Attack[Any]]:
    """Every attack that takes lenses and descends on the target model itself, at settings that make it short."""
    attacks = []
    for kind in ATTACKS.kinds():
        if ATTACKS.class_of(config_for(ATTACKS, kind)).takes_lenses:
            cls = ATTACKS.config_of(kind)
            settings = {name: value for name, value in SMALL.items() if name in cls.model_fields}
            attacks.append(ATTACKS.build(cls(**settings)))
    return [attack for attack in attacks if issubclass(attack.oracle_type, WhiteBoxOracle)]


def prior_for(attack: Attack[Any]) -> Prior:
    """The first of the tiny priors that the attack accepts."""
    networks = golden_networks(torch.float32)
    for prior in (networks.prior(), networks.conditional_prior(), TinyStaged(networks.style)):
        try:
            attack.check(prior=prior, classes=IDENTITIES)
        except ConfigError:
            continue
        return prior
    raise AssertionError(f"no tiny prior suits {attack.config.kind}")
