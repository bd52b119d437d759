"""Measure random erasing beside torchvision and timm: CPU milliseconds per batch, on one thread.

Run as `python -m benchmarks.erasing [rounds]`. The contestants take turns on the same batch, so that a busy machine
slows all of them; CPU seconds leave out the time that other processes took. Ours is what training calls, with its
statistics. timm cannot fill each channel with a value of its own and fills with 0; torchvision works on one image at a
time.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable
from typing import Any

import timm
import torch
import torchvision
from timm.data.random_erasing import RandomErasing as TimmErasing
from torch import Tensor

from benchmarks.timing import alternate, cpu_seconds
from workloads.core.numerics import cpu_model
from workloads.core.randomness import generator
from workloads.defenses.base import TrainingFacts
from workloads.defenses.boxes import Coverage
from workloads.defenses.random_erasing import OFFICIAL_COLOUR, RandomErasing, RandomErasingConfig, draw_boxes

BATCH = 128
SIZES = (64, 224)
ROUNDS = 31
MIN_AREA, MAX_AREA = 0.1, 0.4

Contestant = Callable[[Tensor], object]


def main() -> None:
    """Run the measurement and print it as JSON."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    torch.set_num_threads(1)
    results = {f"3x{size}x{size}": measure(size, rounds) for size in SIZES}
    print(json.dumps({"batch": BATCH, "rounds": rounds, "machine": machine(), "results": results}, indent=1))


def measure(size: int, rounds: int) -> dict[str, Any]:
    """Measure median, fastest and slowest milliseconds per batch of each contestant, and how many times faster ours is.

    The parts of ours are compared by their means, since the statistics are counted only once every few batches.
    """
    images = torch.randn(BATCH, 3, size, size, generator=generator("benchmark", size))
    turns = {name: functools.partial(erase, images) for name, erase in contestants(size).items()}
    seconds = alternate(turns, rounds, cpu_seconds)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    mean = {name: statistics.fmean(times) for name, times in seconds.items()}
    parts = [name for name in seconds if name.startswith("ours_")]
    peers = [name for name in seconds if not name.startswith("ours")]
    return {
        "cpu_ms": {name: milliseconds(median[name], min(times), max(times)) for name, times in seconds.items()},
        "times_faster": {name: round(median[name] / median["ours"], 2) for name in peers},
        "share_of_ours": {name: round(mean[name] / mean["ours"], 3) for name in parts},
    }


def milliseconds(*seconds: float) -> list[float]:
    """Convert seconds to milliseconds, rounded to microseconds."""
    return [round(1e3 * value, 3) for value in seconds]


def contestants(size: int) -> dict[str, Contestant]:
    """Set up every implementation to erase alike: one square in the image, area 0.1 to 0.4, one value per channel."""
    config = RandomErasingConfig(min_area=MIN_AREA, max_area=MAX_AREA, max_aspect=1.0, fill="official")
    facts = TrainingFacts(BATCH, (3, size, size), torch.zeros(3), lambda name: generator("benchmark", name))
    ours, indices, draws = RandomErasing(config, facts=facts), torch.arange(BATCH), generator("benchmark")
    settings = {"p": 1.0, "scale": (MIN_AREA, MAX_AREA), "ratio": (1.0, 1.0), "value": OFFICIAL_COLOUR}
    copying = torchvision.transforms.RandomErasing(**settings)
    in_place = torchvision.transforms.RandomErasing(**settings, inplace=True)
    coverage = Coverage((size, size))
    boxes = draw_boxes(BATCH, (size, size), config, generator=draws)
    return {
        "ours": lambda images: ours.augment(images, indices=indices, generator=draws),
        "torchvision": lambda images: [copying(image) for image in images],
        "torchvision_in_place": lambda images: [in_place(image) for image in images],
        "timm": TimmErasing(1.0, MIN_AREA, MAX_AREA, 1.0, 1.0, mode="const", device="cpu"),
        "ours_drawing_alone": lambda images: draw_boxes(BATCH, (size, size), config, generator=draws),
        "ours_statistics_alone": lambda images: coverage.add(boxes),
    }


def machine() -> dict[str, Any]:
    """Describe the machine and the versions that the numbers depend on."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
    }


if __name__ == "__main__":
    main()
