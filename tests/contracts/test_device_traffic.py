"""What training, attacks and priors pass between host and device; first, that the lens sees what it is to count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.device_traffic import DEVICE, DeviceTraffic, traffic_counted
from tests.support.interruptions import context_at
from workloads.datasets.base import ImageSet
from workloads.models.small_cnn import SmallCnnConfig
from workloads.recipes.optimization import TrainingConfig
from workloads.training.classifiers import Architecture
from workloads.training.loop import _Training, train

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


# Training. What an epoch's setup does once is left out: the order of its images is drawn on the host and copied.

CLASSES, IMAGES, SIZE = 3, 10, 32
NOISE = ImageSet(torch.zeros(IMAGES, 3, SIZE, SIZE, dtype=torch.uint8), torch.arange(IMAGES) % CLASSES, ("a", "b", "c"))


def traffic_of_steps(folder: Path, monkeypatch: pytest.MonkeyPatch, **training: Any) -> DeviceTraffic:
    """What passes during all steps of two epochs of three batches each."""
    model = Architecture(model=SmallCnnConfig(width=2, stages=2), classes=CLASSES, channels=3, image_size=SIZE).build()
    during = DeviceTraffic()
    take_steps = _Training._take_steps

    def watched(training: _Training, *args: Any) -> Any:
        with traffic_counted() as traffic:
            result = take_steps(training, *args)
        during.add(traffic)
        return result

    monkeypatch.setattr(_Training, "_take_steps", watched)
    context = context_at(folder)
    context.device = DEVICE
    config = TrainingConfig(**{"epochs": 2, "batch_size": 4, "validation_fraction": 0.5, **training})
    with traffic_counted():  # so that what is read at the end of an epoch is zeros
        train(model.to(DEVICE), NOISE, config, validation=NOISE, defenses=(), context=context)
    return during


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "adam": {"optimizer": "adam", "clip_norm": 1.0, "ema": 0.9, "label_smoothing": 0.1, "warmup_epochs": 1},
    "bf16": {"precision": "bf16", "channels_last": True, "select": "best_validation"},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_steps_of_an_epoch_neither_read_nor_copy_nor_make_generators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    traffic = traffic_of_steps(tmp_path, monkeypatch, **settings)
    assert traffic == DeviceTraffic()
