"""Batched augmentation against torchvision's, one image at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as reference

from workloads.core.errors import ConfigError
from workloads.core.randomness import generator
from workloads.recipes.augmentation import AugmentationConfig, augment

IMAGES = 0.3 + 0.4 * torch.rand(6, 3, 24, 24, generator=generator("test", "images"))  # colours that no change clips


def draws() -> torch.Generator:
    return generator("test", "draws")


def factors(strength: float, row: int) -> Tensor:
    """The factor each image gets: rows of four draws are brightness, contrast, saturation and hue."""
    return 1 + strength * (2 * torch.rand(4, len(IMAGES), generator=draws())[row] - 1)


@pytest.mark.parametrize(
    ("field", "row", "change"),
    [
        ("brightness", 0, reference.adjust_brightness),
        ("contrast", 1, reference.adjust_contrast),
        ("saturation", 2, reference.adjust_saturation),
    ],
)
def test_a_colour_change_is_torchvisions(field: str, row: int, change: Callable[[Tensor, float], Tensor]) -> None:
    varied = augment(IMAGES.clone(), AugmentationConfig.model_validate({field: 0.3}), generator=draws())
    expected = [change(image, factor.item()) for image, factor in zip(IMAGES, factors(0.3, row), strict=True)]
    torch.testing.assert_close(varied, torch.stack(expected), rtol=0, atol=1e-3)  # the two greys differ in 1e-4


def test_hue_keeps_grey_and_lightness() -> None:
    grey = torch.full((4, 3, 8, 8), 0.5)
    varied = augment(grey.clone(), AugmentationConfig(hue=0.5), generator=draws())
    torch.testing.assert_close(varied, grey, rtol=0, atol=1e-5)
    varied = augment(IMAGES.clone(), AugmentationConfig(hue=0.05), generator=draws())
    weights = torch.tensor((0.299, 0.587, 0.114))[:, None, None]
    torch.testing.assert_close((varied * weights).sum(1), (IMAGES * weights).sum(1), rtol=0, atol=1e-4)
    assert (varied - IMAGES).abs().max() > 0.01


def test_a_crop_is_torchvisions_resized_crop() -> None:
    config = AugmentationConfig(crop_scale=(0.25, 0.25))  # a square of half the side
    varied = augment(IMAGES.clone(), config, generator=draws())
    _, across, down, _ = torch.rand(4, len(IMAGES), generator=draws())
    for image, crop, left, top in zip(IMAGES, varied, across * 12, down * 12, strict=True):
        # Bilinear look-up at fractional corners: compare with a crop at the same place of a finer picture.
        fine = reference.resize(image, [24 * 8, 24 * 8], antialias=False)
        corner = [round(8 * top.item()), round(8 * left.item())]
        expected = reference.resized_crop(fine, *corner, 96, 96, [24, 24], antialias=False)
        assert (crop - expected)[:, 2:-2, 2:-2].abs().mean() < 0.02
        assert (crop - image)[:, 2:-2, 2:-2].abs().mean() > 0.05


def test_no_crop_and_no_turn_is_the_image_itself() -> None:
    uncropped = augment(IMAGES.clone(), AugmentationConfig(crop_scale=(1.0, 1.0)), generator=draws())
    torch.testing.assert_close(uncropped, IMAGES, rtol=0, atol=1e-5)


def test_a_turn_is_torchvisions_rotation() -> None:
    varied = augment(IMAGES.clone(), AugmentationConfig(rotation=30.0), generator=draws())
    angles = (2 * torch.rand(4, len(IMAGES), generator=draws())[3] - 1) * 30
    bilinear = reference.InterpolationMode.BILINEAR
    for image, turned, angle in zip(IMAGES, varied, angles, strict=True):
        expected = reference.rotate(image, angle.item(), interpolation=bilinear)
        torch.testing.assert_close(turned[:, 7:17, 7:17], expected[:, 7:17, 7:17], rtol=0, atol=1e-4)


def test_half_of_many_images_are_mirrored() -> None:
    batch = torch.rand(1, 1, 4, 4, generator=generator("test", "one")).expand(2000, -1, -1, -1)
    varied = augment(batch, AugmentationConfig(flip=True), generator=draws())
    mirrored = (varied == batch.flip(-1)).flatten(1).all(1)
    assert ((varied == batch).flatten(1).all(1) | mirrored).all()
    assert abs(mirrored.double().mean().item() - 0.5) < 5 * 0.5 / 2000**0.5


def test_a_shift_moves_by_whole_pixels_and_repeats_the_edge() -> None:
    columns = torch.arange(8.0).expand(64, 1, 8, 8) / 8
    varied = augment(columns, AugmentationConfig(shift=2), generator=draws())
    first = (varied[:, 0, 0] * 8).long()
    moved = first[:, 4] - 4
    assert set(moved.tolist()) == {-2, -1, 0, 1, 2}
    assert torch.equal(first, (torch.arange(8) + moved[:, None]).clamp(0, 7))


def test_one_channel_has_brightness_and_contrast() -> None:
    grey = IMAGES[:, :1]
    varied = augment(grey.clone(), AugmentationConfig(brightness=0.2, saturation=0.5, hue=0.5), generator=draws())
    torch.testing.assert_close(varied, grey * factors(0.2, 0)[:, None, None, None], rtol=0, atol=1e-6)


def test_a_scale_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match=r"crop_scale \[0.9, 0.5\] begins above its end"):
        AugmentationConfig(crop_scale=(0.9, 0.5))
    assert issubclass(ConfigError, ValueError)
