"""Several small targets trained at once on one card, against one after the other."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from shutil import which

import torch

from benchmarks.gpu.context import unstored_context
from benchmarks.gpu.rows import Row, Size
from orchestrator.executors.ray.mps import CONTROL, mps_daemon
from orchestrator.placement.machine import mps_runs
from workloads.core.numerics import deterministic, fix_cublas_workspace
from workloads.core.randomness import generator
from workloads.datasets.base import ImageSet
from workloads.models.base import ModelConfig
from workloads.models.small_cnn import SmallCnnConfig
from workloads.models.vgg16_bn import Vgg16BnConfig
from workloads.recipes.optimization import TrainingConfig
from workloads.training.classifiers import Architecture
from workloads.training.loop import train

VGG = Vgg16BnConfig()


@dataclass(frozen=True)
class Target:
    """A small training, as large as one on the 62 people of Labeled Faces in the Wild."""

    model: ModelConfig = VGG
    side: int = 64
    """Height and width of an image in pixels."""
    images: int = 2400
    classes: int = 62
    epochs: int = 2

    def run(self, device: str) -> None:
        """Train it, on noise."""
        draws = generator("benchmark", "sharing")
        images = torch.randint(256, (self.images, 3, self.side, self.side), generator=draws, dtype=torch.uint8)
        identities = torch.randint(self.classes, (self.images,), generator=draws)
        data = ImageSet(images, identities, tuple(map(str, range(self.classes))))
        model = Architecture(model=self.model, classes=self.classes, channels=3, image_size=self.side).build(seed=1)
        model.draw_weights(draws)
        context = unstored_context(torch.device(device), lambda progress: None)
        with deterministic(torch.device(device)):
            train(model.to(device), data, TrainingConfig(epochs=self.epochs), defenses=(), context=context)


def rows(size: Size, device: torch.device) -> Iterator[Row]:
    """How many times more a card does with eight targets at once than one by one; under MPS too, where it can be."""
    count, target = (8, Target()) if size == "full" else (2, Target(SmallCnnConfig(width=2), 8, 4, 2, 1))
    name = f"{count} small targets at once over one by one"
    yield _row(name, size, target, device, count)
    if size == "full" and not mps_runs() and which(CONTROL):
        with mps_daemon():
            yield _row(f"{name}, under MPS", size, target, device, count)


def _row(name: str, size: Size, target: Target, device: torch.device, count: int) -> Row:
    """Time targets in processes as workers are, which begin under the service if it runs."""
    with _workers(size, count) as workers:
        _all_at_once(workers, target, device, count)  # starts processes and CUDA, compiles what is compiled
        alone = _all_at_once(workers, target, device, 1)
        together = _all_at_once(workers, target, device, count)
    details = {"one_s": alone, "all_s": together, "mps": mps_runs()}
    return Row("sharing", name, count * alone / together, "", at_least=3.0, details=details)


def _workers(size: Size, count: int) -> Executor:
    if size == "tiny":
        return ThreadPoolExecutor(count)
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=_prepare)


def _prepare() -> None:
    """Prepare a process as a worker is."""
    torch.set_num_threads(1)
    fix_cublas_workspace()


def _all_at_once(workers: Executor, target: Target, device: torch.device, count: int) -> float:
    """Seconds until all copies of the target that were begun at once are trained."""
    started = time.perf_counter()
    for future in [workers.submit(target.run, str(device)) for _ in range(count)]:
        future.result()
    return time.perf_counter() - started
