"""Trap-MID against an epoch recorded from its authors' code."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.support.golden_networks import TinyClassifier, golden_weights
from workloads.core.randomness import generator
from workloads.defenses.base import Batch, TrainingFacts
from workloads.defenses.trap_mid import TrapMid, TrapMidConfig
from workloads.models.base import Classifier
from workloads.training.step import cross_entropy


class Raw(nn.Module):
    """A tiny classifier with the two halves a defense calls apart, on images that need no normalising."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def normalize(self, images: Tensor) -> Tensor:
        return images

    def classify(self, normalized: Tensor) -> Tensor:
        logits: Tensor = self.network(normalized)
        return logits


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)


def test_an_epoch_of_trap_mid_is_the_authors(case: dict[str, Tensor]) -> None:
    target = Raw(golden_weights(TinyClassifier(width=6, outputs=6, norm=True), "trap_mid", "target"))
    judge = Raw(golden_weights(TinyClassifier(width=4, outputs=1, norm=True), "trap_mid", "trap_discriminator"))
    facts = TrainingFacts(24, (3, 8, 8), torch.zeros(3), lambda *name: generator("job", *name), classes=6)
    networks: dict[str, Any] = {"build_network": lambda outputs: judge, "build_optimizer": sgd}
    defense = TrapMid(TrapMidConfig(), facts=dataclasses.replace(facts, **networks))
    defense.triggers = case["triggers"]
    defense.start(cast(Classifier, target))
    defense.begin_epoch(0)
    defense._assigned = case["trap_identities"].flatten()
    optimizer = sgd(target)
    for step, (images, labels) in enumerate(zip(case["images"], case["labels"], strict=True)):
        target.train()
        weights = torch.full((12,), 1 / 12, dtype=torch.float64)
        batch = Batch(images, torch.arange(12), F.one_hot(labels, 6).double(), weights)
        batch = defense.prepare(batch, generator=generator("test"))
        torch.testing.assert_close(defense.triggers, case["triggers_after_step"][step], rtol=0, atol=1e-9)
        loss = cross_entropy(target.classify(batch.images), batch)
        assert loss.item() == pytest.approx(case["model_loss"][step].item(), abs=1e-9)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, network in {"model_after": target.network, "discriminator_after": judge.network}.items():
        for part, value in network.state_dict().items():
            if not part.endswith("num_batches_tracked"):
                torch.testing.assert_close(value, case[f"{name}.{part}"], rtol=0, atol=1e-9)


def test_every_class_is_assigned_equally_often() -> None:
    facts = TrainingFacts(24, (3, 8, 8), torch.zeros(3), lambda *name: generator("job", *name), classes=6)
    defense = TrapMid(TrapMidConfig(), facts=facts)
    defense.begin_epoch(0)
    assert defense._assigned.bincount().tolist() == [4] * 6
    assert math.prod(defense.triggers.shape) == 6 * 3 * 8 * 8
