"""Steps that are recorded: when, for which batches, and with the bits of those that are computed."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.interruptions import context_at
from tests.support.training import facts_of_one_image
from workloads.core.cuda_graphs import CudaGraphs
from workloads.core.numerics import deterministic
from workloads.core.randomness import generator
from workloads.datasets.base import ImageSet
from workloads.defenses.base import Batch
from workloads.defenses.bido import Bido, BidoConfig
from workloads.defenses.none import NoDefense, NoneConfig
from workloads.models.small_cnn import SmallCnnConfig
from workloads.recipes.optimization import TrainingConfig
from workloads.training import loop, step
from workloads.training.classifiers import Architecture
from workloads.training.loop import train
from workloads.training.step import RecordedStep, fastest

CPU = torch.device("cpu")


class Stream:
    """A stream of a GPU that is none."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def wait_stream(self, other: Stream) -> None:
        assert isinstance(other, Stream)


class Recording:
    """A recording that says so; one of five rows cannot be made."""

    rows: list[int]

    def __init__(self, step: Any, batch: Batch, graphs: CudaGraphs) -> None:
        if len(batch.images) == 5:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.rows.append(len(batch.images))

    def replay(self, batch: Batch) -> Tensor:
        return torch.tensor([len(batch.images), 1.0])


def computed(batch: Batch) -> Tensor:
    return torch.tensor([len(batch.images), 0.0])


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> RecordedStep:
    """A step that is recorded as on a GPU: its second number is 0 where it was computed and 1 where it was replayed."""
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(step, "_Recording", Recording)
    monkeypatch.setattr(Recording, "rows", [], raising=False)
    return RecordedStep(computed, CPU)


def batch_of(rows: int) -> Batch:
    return Batch(torch.zeros(rows, 1, 2, 2), torch.arange(rows), torch.zeros(rows, 2), torch.zeros(rows))


def replayed(recorded: RecordedStep, rows: list[int]) -> list[int]:
    results = [recorded(batch_of(count)) for count in rows]
    assert [int(result[0]) for result in results] == rows, "each is the step on its own batch"
    return [int(result[1]) for result in results]


def test_a_step_is_computed_three_times_then_recorded_once_and_replayed(recorded: RecordedStep) -> None:
    assert replayed(recorded, [4] * 6) == [0, 0, 0, 1, 1, 1]
    assert Recording.rows == [4]


def test_every_shape_of_batch_has_a_recording(recorded: RecordedStep) -> None:
    assert replayed(recorded, [4, 4, 2] * 4) == [0, 0, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1]
    assert Recording.rows == [4, 2]


def test_a_step_that_cannot_be_recorded_is_computed(recorded: RecordedStep) -> None:
    assert replayed(recorded, [5] * 6) == [0] * 6


@pytest.mark.usefixtures("recorded")
def test_a_step_is_recorded_on_gpus_where_all_defenses_allow_it() -> None:
    plain = NoDefense(NoneConfig(), facts=facts_of_one_image())
    hooked = Bido(BidoConfig(), facts=facts_of_one_image())
    gpu = torch.device("cuda")
    assert isinstance(fastest(computed, [plain], gpu), RecordedStep)
    assert fastest(computed, [plain, hooked], gpu) is computed
    assert fastest(computed, [plain], CPU) is computed


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_recorded_steps_train_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: Any) -> None:
    draws = generator("test", "images")
    images = torch.randint(256, (40, 3, 32, 32), generator=draws, dtype=torch.uint8)
    data = ImageSet(images, torch.arange(40) % 4, ("a", "b", "c", "d"))
    config = TrainingConfig(epochs=6, batch_size=16, optimizer=optimizer, schedule="one_cycle", ema=0.9)

    def weights() -> dict[str, Tensor]:
        model = Architecture(model=SmallCnnConfig(width=4), classes=4, channels=3, image_size=32).build().cuda()
        context = context_at(tmp_path)
        context.device = torch.device("cuda")
        with deterministic():
            train(model, data, config, defenses=(), context=context)
        return model.state_dict()

    by_replay = weights()
    monkeypatch.setattr(loop, "fastest", lambda computed, defenses, device: computed)
    assert all(torch.equal(tensor, by_replay[name]) for name, tensor in weights().items())
