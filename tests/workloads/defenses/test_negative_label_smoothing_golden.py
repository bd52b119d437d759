"""Negative label smoothing against numbers recorded from its authors' code, and by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.support.training import facts_of_one_image
from workloads.core.randomness import generator
from workloads.defenses.base import Batch
from workloads.defenses.negative_label_smoothing import NegativeLabelSmoothing, NegativeLabelSmoothingConfig, share
from workloads.training.step import cross_entropy


def smoothed(config: NegativeLabelSmoothingConfig, labels: Tensor, *, epoch: int, classes: int) -> Batch:
    defense = NegativeLabelSmoothing(config, facts=facts_of_one_image(epochs=100))
    defense.begin_epoch(epoch)
    rows = len(labels)
    targets = F.one_hot(labels, classes).double()
    weights = torch.full((rows,), 1 / rows, dtype=torch.float64)
    batch = Batch(torch.zeros(rows, 1, 1, 1), torch.arange(rows), targets, weights)
    return defense.prepare(batch, generator=generator("test"))


@pytest.mark.parametrize("smoothing", [-0.05, 0.0, 0.1])
def test_a_smoothed_loss_is_the_authors(case: dict[str, Tensor], smoothing: float) -> None:
    config = NegativeLabelSmoothingConfig(smoothing=smoothing)
    batch = smoothed(config, case["nls_labels"], epoch=99, classes=case["logits"].shape[1])
    loss = cross_entropy(case["logits"].double(), batch)
    torch.testing.assert_close(loss, case[f"nls.loss_{smoothing}"], rtol=0, atol=1e-10)


@pytest.mark.parametrize(("smoothing", "expected"), [(-0.05, 1.536304), (0.0, 1.567554), (0.1, 1.630054)])
def test_a_smoothed_loss_of_two_rows_by_hand(smoothing: float, expected: float) -> None:
    logits = torch.tensor([[2, 1, 0.5, -1], [0, 3, -1, 0.5]], dtype=torch.float64)
    batch = smoothed(NegativeLabelSmoothingConfig(smoothing=smoothing), torch.tensor([0, 3]), epoch=99, classes=4)
    assert cross_entropy(logits, batch).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("epochs", "name"), [(100, "100_epochs"), (10, "mnist_10_epochs")])
def test_the_schedule_is_the_authors_with_its_jump(case: dict[str, Tensor], epochs: int, name: str) -> None:
    factors = [share(NegativeLabelSmoothingConfig(), epoch, epochs=epochs) for epoch in range(epochs)]
    assert factors == pytest.approx(case[f"nls.schedule_factor_{name}"].tolist(), abs=1e-10)


def test_positive_smoothing_and_no_schedule_do_not_wait() -> None:
    assert share(NegativeLabelSmoothingConfig(smoothing=0.1), 0, epochs=100) == 1
    assert share(NegativeLabelSmoothingConfig(schedule="none"), 0, epochs=100) == 1
