"""Adaptive augmentation: how its probability follows the critic, and how its changes are distributed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from workloads.core.randomness import generator
from workloads.priors.stylegan2.adaptive_augmentation import AdaptiveAugmentation, random_affine_maps, random_colours


def draws(*purpose: int | str) -> torch.Generator:
    return generator("test", *purpose)


def adaptive(probability: float = 0.0, *, target: float = 0.6) -> AdaptiveAugmentation:
    augmentation = AdaptiveAugmentation(target=target, pace=0.001)
    augmentation.probability.fill_(probability)
    return augmentation


def images(channels: int = 3) -> Tensor:
    return torch.rand(6, channels, 16, 16, generator=draws("images")) * 2 - 1


def test_nothing_happens_at_probability_zero() -> None:
    batch = images()
    assert adaptive()(batch, draws("any")) is batch


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.0, 1.0, 0.1, 0.1, 9.0], 0.52),  # all real: 1 is above 0.6, and 4 looks at 5 images move by 0.02
        ([5.0, 1.0, 0.1, 0.1, -9.0], 0.5),  # 3 of 5 for real leave 0.6, which is the target
        ([5.0, 1.0, 0.1, -0.1, -9.0], 0.48),  # 0.2 is below it
    ],
)
def test_the_probability_follows_how_often_real_images_pass_for_real(values: list[float], expected: float) -> None:
    augmentation = adaptive(0.5, target=0.6)
    for _ in range(4):
        augmentation.adapt(torch.tensor(values))
    assert augmentation.probability.item() == pytest.approx(expected)


def test_the_probability_waits_for_four_looks() -> None:
    augmentation = adaptive(0.5)
    for _ in range(3):
        augmentation.adapt(torch.ones(5))
    assert augmentation.probability.item() == 0.5


def test_looks_are_forgotten_after_a_change() -> None:
    augmentation = adaptive(0.5)
    for value in [1.0] * 4 + [-1.0] * 4:
        augmentation.adapt(torch.full((5,), value))
    assert augmentation.probability.item() == pytest.approx(0.5)


@pytest.mark.parametrize(("start", "value"), [(0.0, -1.0), (1.0, 1.0)])
def test_the_probability_stays_between_never_and_always(start: float, value: float) -> None:
    augmentation = adaptive(start)
    for _ in range(4):
        augmentation.adapt(torch.full((5,), value))
    assert augmentation.probability.item() == start


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_images_keep_their_shape_and_change(channels: int) -> None:
    batch = images(channels)
    changed = adaptive(1.0)(batch, draws("change"))
    assert changed.shape == batch.shape
    assert not torch.isclose(changed, batch).flatten(1).all(1).any()


def test_the_same_draws_change_images_alike() -> None:
    first, second = (adaptive(0.7)(images(), draws("change")) for _ in range(2))
    assert torch.equal(first, second)


def test_gradients_reach_the_images() -> None:
    batch = images().requires_grad_(True)
    (slope,) = torch.autograd.grad(adaptive(1.0)(batch, draws("change")).sum(), batch)
    assert (slope != 0).any()


def test_without_luck_moves_and_colours_are_the_identity() -> None:
    moves, (matrices, offsets) = (
        random_affine_maps(3, NEVER, draws("none")),
        random_colours(3, 3, NEVER, draws("none")),
    )
    torch.testing.assert_close(moves, torch.eye(2, 3).expand(3, -1, -1))
    torch.testing.assert_close(matrices, torch.eye(3).expand(3, -1, -1))
    assert (offsets == 0).all()


NEVER, ALWAYS = torch.tensor(0.0), torch.tensor(1.0)
COUNT = 20_000
SHARE = 0.02  # four deviations of a share of 20,000 draws, at most 0.0035 each, and some


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_a_change_happens_as_often_as_asked(probability: float) -> None:
    matrices, offsets = random_colours(COUNT, 1, torch.tensor(probability), draws("often"))
    moves = random_affine_maps(COUNT, torch.tensor(probability), draws("often"))
    shares = [(matrices != 1).float().mean(), (offsets != 0).float().mean(), (moves[:, 0, 2] != 0).float().mean()]
    assert [share.item() for share in shares] == pytest.approx([probability] * 3, abs=SHARE)


def test_half_of_the_images_are_mirrored_where_all_may_be() -> None:
    turned = torch.linalg.det(random_affine_maps(COUNT, ALWAYS, draws("mirror"))[:, :, :2]) < 0
    assert turned.float().mean().item() == pytest.approx(0.5, abs=SHARE)


def test_scales_are_lognormal_with_a_fifth_of_an_octave() -> None:
    areas = torch.linalg.det(random_affine_maps(COUNT, ALWAYS, draws("scale"))[:, :, :2]).abs().log2() / 2
    assert areas.mean().item() == pytest.approx(0, abs=0.01)
    assert areas.std().item() == pytest.approx(0.2, rel=0.03)


def test_shifts_are_normal_with_an_eighth_of_the_side() -> None:
    shifts = random_affine_maps(COUNT, ALWAYS, draws("shift"))[:, :, 2] / 2  # an image is 2 wide in these coordinates
    assert shifts.std().item() == pytest.approx(0.125, rel=0.03)


def test_changes_of_colour_leave_grey_on_its_axis() -> None:
    matrices, offsets = random_colours(100, 3, ALWAYS, draws("grey"))
    grey = matrices @ torch.ones(3, 1)
    torch.testing.assert_close(grey, grey.mean(1, keepdim=True).expand_as(grey), rtol=0, atol=1e-5)
    torch.testing.assert_close(offsets, offsets.mean(1, keepdim=True).expand_as(offsets), rtol=0, atol=1e-5)


def test_hue_and_luma_alone_keep_lengths() -> None:
    # Singular values are then contrast, along the grey axis, and contrast x saturation, twice across it.
    matrices, _ = random_colours(100, 3, ALWAYS, draws("orthogonal"))
    values = torch.linalg.svdvals(matrices)
    along = (matrices @ torch.ones(3, 1)).norm(dim=1) / 3**0.5
    pairs = torch.cat((along, values), 1).sort(1).values
    gaps = torch.stack((pairs[:, 1] / pairs[:, 0], pairs[:, 3] / pairs[:, 2]), 1)
    torch.testing.assert_close(gaps, torch.ones(100, 2), rtol=0, atol=1e-4)


def test_brightness_is_added_before_contrast() -> None:
    matrices, offsets = random_colours(COUNT, 1, ALWAYS, draws("brightness"))
    assert (offsets / matrices).std().item() == pytest.approx(0.2, rel=0.03)
