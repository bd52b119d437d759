"""What training, attacks and priors pass between host and device; first, that the lens sees what it is to count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.components import config_for
from tests.support.device_traffic import DEVICE, DeviceTraffic, traffic_counted
from tests.support.interruptions import context_at
from workloads.context import DataInput
from workloads.datasets.base import ImageSet
from workloads.datasets.digits import DigitsConfig
from workloads.defenses.base import DEFENSES, DefenseConfig
from workloads.defenses.bido import BidoConfig
from workloads.defenses.cutmix import CutmixConfig
from workloads.defenses.random_erasing import RandomErasingConfig
from workloads.defenses.trap_mid import TrapMidConfig
from workloads.jobs.train_classifier import TrainClassifier, TrainClassifierConfig
from workloads.models.resnet import ResnetConfig
from workloads.models.small_cnn import SmallCnnConfig
from workloads.recipes.augmentation import AugmentationConfig
from workloads.recipes.optimization import TrainingConfig
from workloads.training.classifiers import Architecture, save_classifier
from workloads.training.loop import _Training

READS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda numbers: numbers.sum().item(),
    "float": lambda numbers: float(numbers[0]),
    "if": lambda numbers: 1 if (numbers > 0).all() else 0,
    "tolist": lambda numbers: numbers.tolist(),
    "cpu": lambda numbers: numbers.cpu(),
    "to another type as well": lambda numbers: numbers.to("cpu", torch.float64),
    "copy into the host's": lambda numbers: torch.ones(3).copy_(numbers),
    "equal": lambda numbers: torch.equal(numbers, numbers),
    "nonzero": lambda numbers: numbers.nonzero(),
    "selected by a mask": lambda numbers: numbers[numbers > 0],
    "the error check of a solver": lambda numbers: torch.linalg.inv(numbers.diag()),
}
COPIES: dict[str, Callable[[Tensor], object]] = {
    "to": lambda numbers: torch.ones(3).to(numbers.device),
    "like another": lambda numbers: torch.ones(3).to(numbers),
    "non-blocking": lambda numbers: torch.ones(3).to(numbers.device, non_blocking=True),
    "tensor": lambda numbers: torch.tensor([1.0, 2.0], device=numbers.device),
    "new_tensor": lambda numbers: numbers.new_tensor([1.0, 2.0]),
    "copy into the device's": lambda numbers: numbers.copy_(torch.ones(3)),
    "indices of the host": lambda numbers: numbers[torch.tensor([0, 2])],
}
NEITHER: dict[str, Callable[[Tensor], object]] = {
    "arithmetic": lambda numbers: (numbers * 2 + numbers.sum()).clamp(0, 1),
    "a number of the host": lambda numbers: numbers + torch.tensor(2.0),
    "made on the device": lambda numbers: torch.full((3,), 0.5, device=numbers.device) + torch.arange(3, device=DEVICE),
    "indices of the device": lambda numbers: numbers[torch.zeros(2, dtype=torch.long, device=numbers.device)],
    "a solver that checks nothing": lambda numbers: torch.linalg.inv_ex(numbers.diag()),
    "host alone": lambda numbers: torch.ones(3).sum().item(),
}


def traffic_of(action: Callable[[Tensor], object]) -> DeviceTraffic:
    with traffic_counted() as traffic:
        numbers = torch.empty(3, device=DEVICE)
        action(numbers)
    return traffic


@pytest.mark.parametrize("action", READS.values(), ids=READS)
def test_the_lens_sees_a_read(action: Callable[[Tensor], object]) -> None:
    traffic = traffic_of(action)
    assert len(traffic.reads) == 1 and "test_device_traffic.py" in traffic.reads[0]
    assert traffic.copies == traffic.generators == traffic.unnamed_draws == []


@pytest.mark.parametrize("action", COPIES.values(), ids=COPIES)
def test_the_lens_sees_a_copy(action: Callable[[Tensor], object]) -> None:
    traffic = traffic_of(action)
    assert len(traffic.copies) == 1 and "test_device_traffic.py" in traffic.copies[0]
    assert traffic.reads == traffic.generators == traffic.unnamed_draws == []


@pytest.mark.parametrize("action", NEITHER.values(), ids=NEITHER)
def test_the_lens_counts_nothing_that_stays_in_one_place(action: Callable[[Tensor], object]) -> None:
    traffic = traffic_of(action)
    assert traffic.reads == traffic.copies == traffic.generators == traffic.unnamed_draws == []


def test_the_lens_sees_generators_and_draws_of_the_global_one() -> None:
    with traffic_counted() as traffic:
        torch.rand(3, generator=torch.Generator().manual_seed(0))
        np.random.default_rng(0).random()
        torch.rand(3, device=DEVICE)
        torch.rand(3)
    assert [event.partition(" ")[0] for event in traffic.generators] == ["Generator", "default_rng"]
    assert [event.partition(" ")[0] for event in traffic.unnamed_draws] == ["rand"]


def test_the_lens_sees_reads_in_a_backward_pass() -> None:
    weight = torch.ones(3, device=DEVICE, requires_grad=True)
    weight.register_hook(lambda gradient: gradient * gradient.norm().item())
    with traffic_counted() as traffic:
        weight.square().sum().backward()
    assert len(traffic.reads) == 1


def test_mixed_devices_fail() -> None:
    with pytest.raises(AssertionError, match="mixes tensors of host and device"):
        traffic_of(lambda numbers: numbers + torch.ones(3))


# Training. Left out is what a process does once, such as copying constants of colours, and what the setup of an epoch
# does: the order of its images is drawn on the host and copied, and what the epoch before covered is counted.

CLASSES, IMAGES, SIZE = 3, 10, 32
NOISE = ImageSet(torch.zeros(IMAGES, 3, SIZE, SIZE, dtype=torch.uint8), torch.arange(IMAGES) % CLASSES, ("a", "b", "c"))
SMALL, RESIDUAL = SmallCnnConfig(width=2, stages=2), ResnetConfig()
VARIED = AugmentationConfig(
    flip=True, shift=2, crop_scale=(0.7, 1.0), rotation=20.0, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1
)


def traffic_of_steps(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *defenses: DefenseConfig, **training: Any
) -> DeviceTraffic:
    """What passes during the steps of the second of two epochs."""
    model = RESIDUAL if any(defense.kind == "rolss" for defense in defenses) else SMALL
    public = Architecture(model=model, classes=CLASSES, channels=3, image_size=SIZE)
    save_classifier(folder, public.build(), public)
    epochs: list[DeviceTraffic] = []
    take_steps = _Training._take_steps

    def watched(training: _Training, batches: Any) -> Any:
        with traffic_counted() as traffic:
            result = take_steps(training, batches)
        epochs.append(traffic)
        return result

    monkeypatch.setattr(_Training, "_take_steps", watched)
    context = context_at(folder)
    context.device, context.load_images, context.inputs = DEVICE, lambda data: NOISE, {"public": folder}
    config = TrainClassifierConfig(
        role="target",
        data=DataInput(dataset=DigitsConfig(), digest=""),
        split=None,
        model=model,
        training=TrainingConfig(**{"epochs": 2, "batch_size": 4, **training}),
        defenses=defenses,
    )
    with traffic_counted():  # so that what is read at the end of an epoch is zeros
        TrainClassifier(config).run(context)
    return epochs[1]


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "adam": {"optimizer": "adam", "clip_norm": 1.0, "ema": 0.9, "label_smoothing": 0.1, "warmup_epochs": 1},
    "bf16": {"precision": "bf16", "channels_last": True, "select": "best_validation", "validation_fraction": 0.3},
    "augmented": {"augmentation": VARIED},
    "cropped": {"augmentation": VARIED.model_copy(update={"rotation": 0.0})},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_steps_of_an_epoch_neither_read_nor_copy_nor_make_generators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    assert traffic_of_steps(tmp_path, monkeypatch, **settings) == DeviceTraffic()


FILLS: tuple[Any, ...] = ("official", "box_colour", "pixel_noise", "blur", 0.5)
PLACES: tuple[Any, ...] = ("uniform", "fixed_centre", "fixed_corner", "per_image")
DEFENDED: dict[str, tuple[DefenseConfig, ...]] = {
    **{kind: (config_for(DEFENSES, kind),) for kind in DEFENSES.kinds()},
    **{f"erased with {fill}": (RandomErasingConfig(fill=fill, boxes=2),) for fill in FILLS},
    **{f"erased {place}": (RandomErasingConfig(location=place, fill="blur"),) for place in PLACES},
    "bido by the authors": (BidoConfig(fidelity="official"),),
    "bido by coco": (BidoConfig(measure="coco", label_kernel="imq"),),
    "trapped then erased": (TrapMidConfig(), RandomErasingConfig()),
    "cutmix by a curved law": (CutmixConfig(alpha=0.5),),
}


@pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter")  # what tl_dmi starts from
@pytest.mark.parametrize("defenses", DEFENDED.values(), ids=DEFENDED)
def test_no_defense_makes_the_host_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defenses: tuple[DefenseConfig, ...]
) -> None:
    assert traffic_of_steps(tmp_path, monkeypatch, *defenses) == DeviceTraffic()
