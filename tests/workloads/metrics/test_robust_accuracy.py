"""Robust accuracy where it is known exactly: on linear networks, whose margin says how much change they bear."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.support.training import Linear
from workloads.core.randomness import generator
from workloads.metrics.apgd import fooled, towards
from workloads.metrics.base import HeldOutEvidence
from workloads.metrics.robust_accuracy import RobustAccuracy, RobustAccuracyConfig

CLASSES, SIDE, IMAGES = 5, 4, 60
BOUNDS = (0.005, 0.03, 0.1)


def linear_network() -> Linear:
    model = Linear([0.0] * CLASSES, size=SIDE)
    model.head.weight.data = torch.randn(CLASSES, SIDE * SIDE, generator=generator("test", "weights"))
    return model.requires_grad_(False)


def evidence() -> tuple[HeldOutEvidence, Linear]:
    """Images far from black and white, so that no change is cut off; two are named after the wrong person."""
    model = linear_network()
    images = torch.randint(64, 192, (IMAGES, 1, SIDE, SIDE), generator=generator("test", "images"), dtype=torch.uint8)
    logits = model(images.float() / 255)
    identities = logits.argmax(1)
    identities[:2] = (identities[:2] + 1) % CLASSES
    return HeldOutEvidence(logits, identities, images, model), model


def bearable(held_out: HeldOutEvidence, model: Linear) -> Tensor:
    """The largest change of all pixels that leaves the name right: the smallest margin over the l1 norm of the
    difference of two classes' weights, since each pixel moves against its sign. Negative where the name is wrong."""
    weights = model.head.weight
    of_person = weights[held_out.identities]
    margins = held_out.logits.gather(1, held_out.identities[:, None]) - held_out.logits
    norms = (of_person[:, None] - weights).abs().sum(2)
    ratios = (margins / norms).scatter(1, held_out.identities[:, None], float("inf"))
    return ratios.min(1).values


def test_on_a_linear_network_it_is_the_share_of_images_with_a_larger_margin() -> None:
    held_out, model = evidence()
    rows = RobustAccuracy(RobustAccuracyConfig(eps=BOUNDS, iterations=20)).rows(held_out)
    assert list(rows) == ["robust_accuracy_5e-3", "robust_accuracy_3e-2", "robust_accuracy_1e-1"]
    for eps, stands in zip(BOUNDS, rows.values(), strict=True):
        assert torch.equal(stands.bool(), bearable(held_out, model) > eps)
    assert 0.1 < rows["robust_accuracy_3e-2"].mean() < 0.9, "a case in which nothing or all falls tells nothing"


def test_bounds_may_come_in_any_order_and_larger_ones_never_give_more() -> None:
    held_out, _ = evidence()
    rows = RobustAccuracy(RobustAccuracyConfig(eps=tuple(reversed(BOUNDS)), iterations=20)).rows(held_out)
    assert list(rows) == ["robust_accuracy_1e-1", "robust_accuracy_3e-2", "robust_accuracy_5e-3"]
    largest, middle, smallest = rows.values()
    assert (largest <= middle).all() and (middle <= smallest).all()


def test_an_image_is_not_changed_beyond_its_bound_nor_beyond_black_and_white() -> None:
    seen: list[Tensor] = []

    def network(images: Tensor) -> Tensor:
        seen.append(images.detach())
        return linear_network()(images)

    images = torch.tensor([0.0, 0.01, 0.5, 1.0])[:, None, None, None].expand(4, 1, SIDE, SIDE)
    start = torch.linspace(-1, 1, SIDE * SIDE).view(1, SIDE, SIDE)
    fooled(network, images, torch.zeros(4, dtype=torch.int64), by_margin, eps=0.03, iterations=12, start=start)
    assert len(seen) == 13
    changes = torch.stack(seen) - images
    assert changes.abs().max() <= 0.03 + 1e-6 and changes.abs().max() > 0.029
    assert all(shown.min() >= 0 and shown.max() <= 1 for shown in seen)


def by_margin(logits: Tensor) -> Tensor:
    return -logits[:, 0]


@pytest.mark.parametrize("bend", [torch.tanh, torch.sin])
def test_a_maximum_inside_the_bound_is_found_by_halving_steps(bend: Callable[[Tensor], Tensor]) -> None:
    # Only within 0.002 of 0.53 is the name wrong: steps of twice the bound jump over it, halved ones reach it.
    def network(images: Tensor) -> Tensor:
        distance = (images.flatten(1) - 0.53).square().sum(1)
        return torch.stack((bend(distance), torch.full_like(distance, 4e-6)), 1)

    image, start = torch.full((1, 1, 1, 1), 0.5), torch.ones(1, 1, 1)

    def loss(logits: Tensor) -> Tensor:
        return -logits[:, 0]

    identities = torch.zeros(1, dtype=torch.int64)
    assert fooled(network, image, identities, loss, eps=0.1, iterations=100, start=start).all()


def test_the_targeted_loss_by_hand() -> None:
    # Sorted 4, 3, 1, 0.5, 0: spread 4 - (1 + 0.5) / 2 = 3.25; the target's logit is 1, the image's own 3.
    logits = torch.tensor([[4.0, 3.0, 1.0, 0.5, 0.0]])
    loss = towards(torch.tensor([1]), torch.tensor([2]))
    assert loss(logits).item() == pytest.approx((1 - 3) / 3.25)


def test_a_black_box_and_too_few_classes_are_refused() -> None:
    metric = RobustAccuracy(RobustAccuracyConfig())
    assert list(metric.problems_with(is_black_box=False, classes=4)) == []
    assert list(metric.problems_with(is_black_box=True, classes=3)) == [
        "follows gradients of the target model, and a black box has none: leave the metric out.",
        "needs 4 identities or more, the private data have 3: leave it out.",
    ]
