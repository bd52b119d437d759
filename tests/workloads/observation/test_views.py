"""Random views: how they are distributed, and that no image shares a view with its batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from workloads.inversion.rows import Rows
from workloads.observation.views import RandomView, ViewConfig

SIZE = 16
FULL = ViewConfig(scale=(0.8, 1.0), brightness=0.2, contrast=0.2, flip=0.5, rotation=5.0)


def images(count: int) -> Tensor:
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def rows(count: int) -> Rows:
    return Rows.of(torch.arange(count), 1, key="test")


def viewed(config: ViewConfig, shown: Tensor, batch: Rows) -> Tensor:
    return RandomView(config)(shown, batch.draws("view"))


def test_the_neutral_view_is_the_image_itself() -> None:
    shown = images(3)
    assert torch.equal(viewed(ViewConfig(), shown, rows(3)), shown)


def test_the_view_of_an_image_does_not_depend_on_its_batch() -> None:
    shown = images(6)
    alone = viewed(FULL, shown[4:5], rows(6)[4:5])
    torch.testing.assert_close(viewed(FULL, shown, rows(6))[4:5], alone, rtol=0, atol=1e-6)


def test_per_batch_draws_give_every_image_the_same_view() -> None:
    shown = images(1).expand(5, -1, -1, -1)
    views = viewed(FULL.model_copy(update={"draws": "per_batch"}), shown, rows(5))
    assert torch.equal(views, views[:1].expand_as(views))


def test_a_certain_flip_mirrors_the_image() -> None:
    shown = images(2)
    torch.testing.assert_close(viewed(ViewConfig(flip=1.0), shown, rows(2)), shown.flip(3), rtol=0, atol=1e-5)


def test_half_of_the_images_are_mirrored() -> None:
    count = 400
    shown = torch.linspace(0, 1, SIZE).expand(count, 1, SIZE, SIZE)
    mirrored = viewed(ViewConfig(flip=0.5), shown, rows(count))[:, 0, 0, 0] > 0.5
    assert abs(float(mirrored.float().mean()) - 0.5) < 4 * 0.5 / count**0.5  # four standard errors


def test_a_crop_shows_as_much_of_the_image_as_asked() -> None:
    """On a ramp along x the view spans the side of the crop: at area 0.25 half of the ramp."""
    ramp = ((torch.arange(SIZE) + 0.5) / SIZE).expand(8, 1, SIZE, SIZE)
    views = viewed(ViewConfig(scale=(0.25, 0.25)), ramp, rows(8))
    steps = views[:, 0, SIZE // 2].diff(dim=1)
    torch.testing.assert_close(steps, torch.full_like(steps, 0.5 / SIZE), rtol=0, atol=1e-6)


def test_a_wide_crop_is_wider_than_high() -> None:
    across = ((torch.arange(SIZE) + 0.5) / SIZE).expand(4, 1, SIZE, SIZE)
    config = ViewConfig(scale=(0.25, 0.25), ratio=(4.0, 4.0))
    wide = viewed(config, across, rows(4))[:, 0, 3].diff(dim=1)
    high = viewed(config, across.mT, rows(4))[:, 0, :, 3].diff(dim=1)
    torch.testing.assert_close(wide[:, 2:-2], torch.full_like(wide[:, 2:-2], 1 / SIZE), rtol=0, atol=1e-6)
    torch.testing.assert_close(high, torch.full_like(high, 0.25 / SIZE), rtol=0, atol=1e-6)


def test_brightness_scales_all_pixels_of_an_image_within_its_range() -> None:
    shown = torch.full((200, 3, SIZE, SIZE), 0.5)
    views = viewed(ViewConfig(brightness=0.2), shown, rows(200))
    factors = views[:, 0, 0, 0] / 0.5
    torch.testing.assert_close(views, views[:, :1, :1, :1].expand_as(views), rtol=0, atol=1e-6)
    assert 0.8 <= float(factors.min()) < 0.85 and 1.15 < float(factors.max()) <= 1.2


def test_contrast_keeps_the_mean_grey() -> None:
    shown = 0.25 + images(50) / 2
    views = viewed(ViewConfig(contrast=0.2), shown, rows(50))
    torch.testing.assert_close(views.mean((1, 2, 3)), shown.mean((1, 2, 3)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("degrees", [90.0])
def test_a_quarter_turn_turns_the_image(degrees: float) -> None:
    """Angles are uniform; the few images drawn near a full quarter turn look like the turned image."""
    shown = torch.zeros(1, 1, SIZE, SIZE)
    shown[..., : SIZE // 2] = 1
    many = shown.expand(300, -1, -1, -1)
    views = viewed(ViewConfig(rotation=degrees, rotation_probability=1.0), many, rows(300))
    nearest = (views - shown.mT).abs().mean((1, 2, 3)).min()
    assert nearest < 0.02


def test_gradients_pass_through_a_view() -> None:
    shown = images(2).requires_grad_(True)
    (slope,) = torch.autograd.grad(viewed(FULL, shown, rows(2)).sum(), shown)
    assert slope.abs().sum() > 0


def test_draws_of_a_batch_do_not_depend_on_which_rows_share_it() -> None:
    """Memory decides how a batch is split; the view must not."""
    view = RandomView(FULL.model_copy(update={"draws": "per_batch"}))
    shown, six_rows = images(6), rows(6)
    unsplit = view(shown, six_rows.draws("view", 3))
    parts = [view(shown[part], six_rows[part].draws("view", 3)) for part in (slice(4), slice(4, 6))]
    assert torch.equal(torch.cat(parts), unsplit)


def test_contrast_is_about_the_grey_of_the_crop() -> None:
    """A crop of one flat patch has no contrast to change, however much there is around it."""
    shown = torch.zeros(20, 1, SIZE, SIZE)
    shown[..., SIZE // 2 :, :] = 1
    views = viewed(ViewConfig(scale=(1e-4, 1e-4), contrast=1.0), shown, rows(20))
    flat = views.flatten(1).std(1) < 1e-6
    values = views[flat][:, 0, 0, 0]
    assert int(flat.sum()) > 10
    assert bool(((values == 0) | (values == 1)).all())


def test_an_image_whose_colours_are_left_alone_keeps_values_beyond_the_range() -> None:
    shown = images(3) - 0.5
    assert torch.equal(viewed(ViewConfig(brightness=0.2, jitter_probability=0.0), shown, rows(3)).sign(), shown.sign())
