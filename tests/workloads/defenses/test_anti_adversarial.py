"""Anti-adversarial training, by hand on a linear network."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.support.training import Linear
from workloads.core.errors import ConfigError
from workloads.core.randomness import generator
from workloads.defenses.anti_adversarial import AntiAdversarial, AntiAdversarialConfig
from workloads.defenses.base import Batch, TrainingFacts
from workloads.defenses.bido import BidoConfig
from workloads.defenses.dp_sgd import DpSgdConfig
from workloads.defenses.random_erasing import RandomErasingConfig

SLOPES = (1.0, -2.0, 0.0, 3.0)
"""Weights of the second class; those of the first are their negatives."""
GREY = 0.5


def defense_of(config: AntiAdversarialConfig, *, std: float = 1.0, classes: int = 2) -> AntiAdversarial:
    facts = TrainingFacts(1, (1, 2, 2), torch.zeros(1), lambda *name: generator("job", *name), classes=classes)
    defense = AntiAdversarial(config, facts=facts)
    model = Linear([0.0] * classes, size=2)
    model.std.fill_(std)
    if classes == 2:
        model.head.weight.data = torch.tensor([SLOPES, SLOPES]) * torch.tensor([[-1.0], [1.0]])
    defense.start(model)
    defense.begin_epoch(0)
    return defense


def batch_of(identities: Tensor, *, colour: float = GREY, classes: int = 2) -> Batch:
    rows = len(identities)
    targets = F.one_hot(identities, classes).float()
    return Batch(torch.full((rows, 1, 2, 2), colour), torch.arange(rows), targets, torch.full((rows,), 1 / rows))


@pytest.mark.parametrize("std", [1.0, 0.5])
def test_every_pixel_moves_as_far_as_it_may_towards_the_wrong_class(std: float) -> None:
    # 20 steps of 0.02 take any start to the edge of +-0.1: every pixel with a slope ends there, against its sign for
    # an image of the second class. Logits are +-(slopes x image), so their difference changes by 2 x (1 + 2 + 3) x 0.1.
    # The pixel without a slope stays where it started, which no logit shows. In normalised units all is over std.
    config = AntiAdversarialConfig(eps=0.1, step=0.02, iterations=20, weight=0.08)
    penalty = defense_of(config, std=std).penalty(batch_of(torch.tensor([1]), colour=GREY / std))
    margin = 2 * (sum(SLOPES) * GREY - 0.1 * 6) / std  # how much the second logit is above the first
    assert penalty.item() == pytest.approx(0.08 * math.log1p(math.exp(margin)), rel=1e-5)


def test_pixels_stay_within_the_colours_of_images() -> None:
    config = AntiAdversarialConfig(eps=0.1, step=0.02, iterations=20, weight=1.0)
    penalty = defense_of(config).penalty(batch_of(torch.tensor([1]), colour=1.0))  # white: only darker is left
    margin = 2 * (sum(SLOPES) - 0.1 * (1 + 3))  # the pixel of slope -2 would have to grow
    assert penalty.item() == pytest.approx(math.log1p(math.exp(margin)), rel=1e-5)


def test_every_wrong_class_is_as_likely_and_the_right_one_is_never_drawn() -> None:
    classes, many = 4, 4000
    identities = torch.arange(many) % classes
    wrong = defense_of(AntiAdversarialConfig(), classes=classes)._wrong_classes(identities)
    assert (wrong != identities).all()
    counts = ((wrong - identities) % classes).bincount(minlength=classes)[1:]
    assert (counts - many / 3).abs().max() < 5 * math.sqrt(many * 2 / 9)


def test_weights_learn_from_changed_images_and_how_many_fooled_is_on_record() -> None:
    defense = defense_of(AntiAdversarialConfig(eps=1.0, step=0.5, iterations=4))
    penalty = defense.penalty(batch_of(torch.tensor([1, 0])))
    penalty.backward()
    weights = defense._model.head.weight
    assert isinstance(weights, Tensor) and weights.grad is not None and weights.grad.abs().sum() > 0
    # From grey, a change of up to 1 within [0, 1] makes any image black or white where it helps: it fools always.
    assert defense.evidence().facts == {"last_epoch_fooled_share": 1.0}


@pytest.mark.parametrize("other", [BidoConfig(), DpSgdConfig()])
def test_defenses_that_look_at_the_last_pass_are_refused(other: BidoConfig | DpSgdConfig) -> None:
    with pytest.raises(ConfigError, match=f"and {other.kind} looks at its last pass: use one of the two"):
        AntiAdversarialConfig().check_combination([other])
    AntiAdversarialConfig().check_combination([RandomErasingConfig()])
