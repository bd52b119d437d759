"""Measure what preparing a training batch costs beside the training step that uses it, in turns in one process.

Usage: python -m benchmarks.pipeline [--rounds N]

Peers that decode, crop and jitter image by image spend 1.2 % of a VGG16 step at 64 pixels on it, and 6.7 % of a
ResNet-18 step at 224.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.timing import alternate, cpu_seconds, medians
from workloads.core.randomness import generator
from workloads.defenses.base import DEFENSES, TrainingFacts
from workloads.defenses.random_erasing import RandomErasingConfig
from workloads.models.base import ModelConfig
from workloads.models.resnet import ResnetConfig
from workloads.models.vgg16_bn import Vgg16BnConfig
from workloads.recipes.augmentation import augment
from workloads.recipes.optimization import TrainingConfig, build_optimizer
from workloads.training.classifiers import Architecture

CLASSES = 530


@dataclass(frozen=True)
class Case:
    """A published training protocol and the image size it is for."""

    name: str
    model: ModelConfig
    image_size: int
    """Height and width in pixels."""
    batch: int
    protocol: str
    limit: float
    """Most that the pipeline may cost, as a fraction of the step."""


CASES = (
    Case("vgg16_bn 64", Vgg16BnConfig(), 64, 64, "lr_64", 0.02),
    Case("resnet18 224", ResnetConfig(depth=18), 224, 32, "hr_224", 0.03),
)


def measure(case: Case, rounds: int) -> dict[str, float]:
    """Median CPU milliseconds per image, of the pipeline and of the step."""
    draws = generator("benchmark", case.name)
    shape = (3, case.image_size, case.image_size)
    cached = torch.randint(256, (4 * case.batch, *shape), generator=draws, dtype=torch.uint8)
    identities = torch.randint(CLASSES, (case.batch,), generator=draws)
    model = Architecture(model=case.model, classes=CLASSES, channels=3, image_size=case.image_size).build(seed=1)
    model.draw_weights(draws)
    model.train().to(memory_format=torch.channels_last)
    training = TrainingConfig.model_validate({"protocol": case.protocol})
    optimizer = build_optimizer(model, training)
    facts = TrainingFacts(len(cached), shape, torch.zeros(3), lambda *name: generator("benchmark", *name))
    erasing = DEFENSES.build(RandomErasingConfig(), facts=facts)

    def prepare() -> Tensor:
        indices = torch.randint(len(cached), (case.batch,), generator=draws)
        images = augment(cached[indices].float().div_(255), training.augmentation, generator=draws)
        return erasing.augment(model.normalize(images), indices=indices, generator=draws)

    def step() -> None:
        loss = F.cross_entropy(model.classify(images.contiguous(memory_format=torch.channels_last)), identities)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    images = prepare()
    times = alternate({"pipeline": prepare, "step": step}, rounds, cpu_seconds)
    return {name: 1000 * seconds / case.batch for name, seconds in medians(times).items()}


def main() -> None:
    """Run the measurement and print one line of JSON for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    for case in CASES:
        cost = measure(case, rounds)
        share = cost["pipeline"] / cost["step"]
        rounded = {f"{name}_ms_per_image": round(milliseconds, 3) for name, milliseconds in cost.items()}
        print(json.dumps({"case": case.name, **rounded, "share": round(share, 4), "limit": case.limit}))


if __name__ == "__main__":
    main()
