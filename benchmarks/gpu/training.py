"""Training steps beside a bare loop over one batch that lies on the card, and beside a compiled one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.gpu.card import BusyMeter, by_torch_defaults, flop, utilisation
from benchmarks.gpu.context import unstored_context
from benchmarks.gpu.rows import Row, Size
from benchmarks.timing import Laps, Work, medians
from workloads.context import Progress
from workloads.core.numerics import Precision, arithmetic, deterministic
from workloads.core.randomness import generator
from workloads.datasets.base import ImageSet
from workloads.models.base import Classifier, ModelConfig
from workloads.models.resnet import ResnetConfig
from workloads.models.small_cnn import SmallCnnConfig
from workloads.models.vgg16_bn import Vgg16BnConfig
from workloads.recipes.optimization import TrainingConfig, build_optimizer
from workloads.training.classifiers import Architecture
from workloads.training.loop import train


@dataclass(frozen=True)
class Case:
    """A network with the batch it is trained on."""

    name: str
    model: ModelConfig
    side: int
    """Height and width of an image in pixels."""
    batch: int
    steps: int
    """Batches of an epoch."""
    rounds: int
    """Epochs that are timed."""
    classes: int = 1000
    utilisation_at_least: float | None = None
    """Share of the card's peak that a step with `precision: bf16` is to reach."""


VGG, RESNET = Vgg16BnConfig(), ResnetConfig(depth=18)
CASES: dict[Size, tuple[Case, ...]] = {
    "full": (
        Case("vgg16_bn 64 px, batch 64", VGG, 64, 64, steps=30, rounds=3),
        Case("vgg16_bn 64 px, batch 256", VGG, 64, 256, steps=15, rounds=3, utilisation_at_least=0.35),
        Case("resnet18 224 px, batch 128", RESNET, 224, 128, steps=15, rounds=3, utilisation_at_least=0.45),
    ),
    "tiny": (
        Case("small_cnn 8 px, batch 4", SmallCnnConfig(width=2, stages=2), 8, 4, 2, 2, 3, utilisation_at_least=0.35),
    ),
}


PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16")


def rows(size: Size, device: torch.device) -> Iterator[Row]:
    """Images a second of each case in each precision, as a share of what bare loops reach."""
    for case in CASES[size]:
        for precision in PRECISIONS:
            yield from _rows_of(case, precision, device, compiled=size == "full" and precision == "bf16")


def _rows_of(case: Case, precision: Precision, device: torch.device, *, compiled: bool) -> Iterator[Row]:
    images, identities = _noise(case)
    bare = _bare_epoch(case, precision, images, identities, device)
    others = {"bare": by_torch_defaults(bare)}
    if compiled:  # a minute for all networks, and of no use on CPUs
        others["compiled"] = by_torch_defaults(_bare_epoch(case, precision, images, identities, device, compiled=True))
    laps = Laps(others, steps=1, device=device)
    _train(case, precision, images, identities, device, laps)
    busy = BusyMeter(device)
    _train(replace(case, rounds=1), precision, images, identities, device, busy)
    seconds = {name: epoch / case.steps for name, epoch in medians(laps.times).items()}
    work = flop(bare) // case.steps
    details: dict[str, float | None] = {
        f"{name}_images_per_second": case.batch / step for name, step in seconds.items()
    }
    details |= {"flop_per_step": work, "busy": busy.share}
    name = f"{case.name}, {precision}"
    of_bare = seconds["bare"] / seconds["ours"]
    yield Row("training", f"{name}: share of a bare eager loop", of_bare, "", at_least=0.95, details=details)
    if compiled:
        of_compiled = seconds["compiled"] / seconds["ours"]
        yield Row("training", f"{name}: share of a compiled loop", of_compiled, "", at_least=0.90)
    share = utilisation(work, seconds["ours"], precision, device)
    expected = case.utilisation_at_least if precision == "bf16" else None
    yield Row("training", f"{name}: MFU", share, "", at_least=expected)


def _noise(case: Case) -> tuple[Tensor, Tensor]:
    """Images and identities of one epoch. Shape: (N, 3, side, side) uint8, (N,) int64."""
    draws = generator("benchmark", case.name)
    count = case.batch * case.steps
    images = torch.randint(256, (count, 3, case.side, case.side), generator=draws, dtype=torch.uint8)
    return images, torch.randint(case.classes, (count,), generator=draws)


def _network(case: Case, device: torch.device) -> Classifier:
    model = Architecture(model=case.model, classes=case.classes, channels=3, image_size=case.side).build(seed=1)
    model.draw_weights(generator("benchmark", "weights"))
    return model.train().to(device)


def _recipe(case: Case, precision: Precision) -> TrainingConfig:
    """The published recipe at 64 pixels, without augmentation, since the bare loop has none."""
    return TrainingConfig(
        epochs=case.rounds + 1, batch_size=case.batch, precision=precision, channels_last=precision == "bf16"
    )


def _train(
    case: Case,
    precision: Precision,
    images: Tensor,
    identities: Tensor,
    device: torch.device,
    on_epoch: Callable[[Progress], None],
) -> None:
    """Train as a job does, one epoch more than there are rounds."""
    data = ImageSet(images, identities, tuple(map(str, range(case.classes))))
    context = unstored_context(device, on_epoch)
    with deterministic(device):
        train(_network(case, device), data, _recipe(case, precision), defenses=(), context=context)


def _bare_epoch(
    case: Case,
    precision: Precision,
    images: Tensor,
    identities: Tensor,
    device: torch.device,
    *,
    compiled: bool = False,
) -> Work:
    """Make an epoch of nothing but steps: forward, backward and optimiser, on one normalised batch on the device."""
    model = _network(case, device)
    config = _recipe(case, precision)
    optimizer = build_optimizer(model, config)
    batch = model.normalize(images[: case.batch].to(device).float().div_(255))
    targets = identities[: case.batch].to(device)
    if config.channels_last:
        model.to(memory_format=torch.channels_last)
        batch = batch.contiguous(memory_format=torch.channels_last)
    classify = torch.compile(model.classify) if compiled else model.classify

    def run() -> None:
        for _ in range(case.steps):
            with arithmetic(precision, device) as forward:
                with forward:
                    logits = classify(batch)
                optimizer.zero_grad(set_to_none=True)
                F.cross_entropy(logits.float(), targets).backward()
            optimizer.step()

    return run
