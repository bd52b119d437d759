"""Random erasing: its distribution against torchvision's own, every fill and place, and the record it keeps."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats
from torch import Tensor
from torchvision.transforms import RandomErasing as TorchvisionErasing

from workloads.core.checkpoints import load_state, save_state
from workloads.core.errors import ConfigError
from workloads.core.randomness import generator
from workloads.defenses.base import DEFENSES, TrainingFacts
from workloads.defenses.boxes import Boxes, regions
from workloads.defenses.random_erasing import (
    RandomErasing,
    RandomErasingConfig,
    blur,
    blurred_at_once,
    draw_boxes,
    erase,
    share_without_box,
)

FILLS = ["mean", "official", "box_colour", "pixel_noise", "blur", -1.5]
LOCATIONS = ["inside", "uniform", "fixed_centre", "fixed_corner", "per_image"]
OFFICIAL = torch.tensor([0.485, 0.456, 0.406])  # MIDRE_TMLR: configs/training/targets/ResNet18_FaceScrub_midre_0.4.yaml
SIGNIFICANCE = 1e-3


def draws(name: str = "draws") -> torch.Generator:
    return generator("test", name)


def training_facts(shape: tuple[int, int, int] = (3, 32, 32), images: int = 64) -> TrainingFacts:
    mean = torch.linspace(-0.4, 0.6, shape[0])
    return TrainingFacts(images, shape, mean, lambda name: generator("job", name))


def defense(shape: tuple[int, int, int] = (3, 32, 32), images: int = 64, **settings: Any) -> RandomErasing:
    return RandomErasing(RandomErasingConfig(**settings), facts=training_facts(shape, images))


def photos(shape: tuple[int, int, int] = (3, 32, 32), images: int = 64) -> Tensor:
    return torch.randn(images, *shape, generator=draws("photos"))


def augmented(erasing: RandomErasing, images: Tensor, seed: str = "draws") -> Tensor:
    return erasing.augment(images.clone(), indices=torch.arange(len(images)), generator=draws(seed))


def changed(before: Tensor, after: Tensor) -> Tensor:
    """Which pixels differ. Shape: (B, C, H, W) twice to (B, H, W)."""
    return (before != after).any(1)


def bounds(mask: Tensor) -> tuple[slice, slice]:
    """The smallest box around the marked pixels of one image (H, W)."""
    rows, columns = (mask.any(axis).nonzero().flatten() for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


@dataclass(frozen=True)
class Erasing:
    """One setting to compare with torchvision on images of (H, W) pixels."""

    size: tuple[int, int]
    area: tuple[float, float]
    aspect: tuple[float, float]


ERASINGS = {
    "squares": Erasing((32, 32), (0.1, 0.4), (1.0, 1.0)),
    "torchvision's defaults": Erasing((48, 48), (0.02, 0.33), (0.3, 3.3)),
    "often redrawn": Erasing((48, 48), (0.1, 0.8), (0.3, 3.3)),
    "often given up": Erasing((64, 64), (0.8, 0.8), (0.3, 3.3)),
    "never upright": Erasing((32, 32), (0.05, 0.5), (0.25, 0.5)),
    "wide images": Erasing((32, 56), (0.1, 0.7), (0.5, 2.0)),
}


@functools.cache
def torchvision_boxes(erasing: Erasing, count: int = 6000) -> dict[str, np.ndarray]:
    """Boxes that torchvision draws; all 0 for one that it gave up, which it reports as the whole image."""
    image = torch.zeros(1, *erasing.size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20)
        rows = [TorchvisionErasing.get_params(image, erasing.area, erasing.aspect, [0.0])[:4] for _ in range(count)]
    top, left, height, width = np.array(rows).T
    is_kept = ~((height == erasing.size[0]) & (width == erasing.size[1]))
    return {"top": top, "left": left, "height": height * is_kept, "width": width * is_kept}


def our_boxes(erasing: Erasing, count: int = 6000) -> dict[str, np.ndarray]:
    """Boxes that we draw; all 0 for one given up."""
    settings: dict[str, Any] = {
        "min_area": erasing.area[0],
        "max_area": erasing.area[1],
        "min_aspect": erasing.aspect[0],
        "max_aspect": erasing.aspect[1],
    }
    boxes = draw_boxes(count, erasing.size, RandomErasingConfig(**settings), generator=draws())
    is_kept = boxes.height[:, 0] > 0
    names = ("top", "left", "height", "width")
    return {name: (getattr(boxes, name)[:, 0] * is_kept).numpy() for name in names}


def measures(boxes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The four numbers of each box, and some that depend on how they go together."""
    top, left, height, width = (boxes[name] for name in ("top", "left", "height", "width"))
    return boxes | {"area": height * width, "bottom": top + height, "right": left + width, "slant": top - left}


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("fill", FILLS)
def test_keeps_shape_dtype_and_memory_and_changes_something(fill: str | float, location: str) -> None:
    images = photos()
    before = images.clone()
    erasing = defense(fill=fill, location=location)
    after = erasing.augment(images, indices=torch.arange(64), generator=draws())
    assert after.data_ptr() == images.data_ptr()
    assert (after.shape, after.dtype) == (before.shape, before.dtype)
    assert changed(before, after).any()
    assert after.isfinite().all()


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("fill", FILLS)
def test_is_a_function_of_the_generator(fill: str | float, location: str) -> None:
    first = augmented(defense(fill=fill, location=location, boxes=2), photos())
    second = augmented(defense(fill=fill, location=location, boxes=2), photos())
    assert torch.equal(first, second)


def test_another_generator_gives_other_boxes() -> None:
    erasing = defense()
    assert not torch.equal(augmented(erasing, photos(), "one"), augmented(erasing, photos(), "two"))


def test_channels_last_batches_are_erased_at_the_same_pixels() -> None:
    last = photos().to(memory_format=torch.channels_last)
    after = defense().augment(last, indices=torch.arange(64), generator=draws())
    assert torch.equal(after, augmented(defense(), photos()))


def test_part_of_a_larger_batch_is_erased_without_touching_the_rest() -> None:
    batch = photos()
    defense().augment(batch[16:48], indices=torch.arange(32), generator=draws())
    assert torch.equal(batch[:16], photos()[:16])
    assert torch.equal(batch[48:], photos()[48:])
    assert changed(batch[16:48], photos()[16:48]).flatten(1).any(1).all()


def test_the_kind_is_registered_with_its_source() -> None:
    (entry,) = [row for row in DEFENSES.describe() if row["kind"] == "random_erasing"]
    assert "TMLR 2025" in entry["source"]
    assert entry["summary"].endswith("never sees a whole one.")


@pytest.mark.parametrize(("max_area", "longest"), [(0.4, 142), (0.8, 200)])
def test_official_setting_paints_one_square_of_the_published_colour(max_area: float, longest: int) -> None:
    """Sides: sqrt(0.1) * 224 = 70.8 to sqrt(0.4) * 224 = 141.7 or sqrt(0.8) * 224 = 200.4, rounded."""
    before = photos((3, 224, 224), 32)
    after = augmented(defense((3, 224, 224), max_area=max_area, fill="official"), before)
    for old, new, mask in zip(before, after, changed(before, after), strict=True):
        rows, columns = bounds(mask)
        side = rows.stop - rows.start
        assert side == columns.stop - columns.start
        assert 71 <= side <= longest
        assert (new[:, rows, columns] == OFFICIAL[:, None, None]).all()
        old[:, rows, columns] = new[:, rows, columns]
        assert torch.equal(old, new)


def test_a_square_as_large_as_the_image_is_given_up() -> None:
    erasing = defense(min_area=1.0, max_area=1.0)
    assert torch.equal(augmented(erasing, photos()), photos())
    assert erasing.evidence()[0]["unerased_share"] == 1.0


@pytest.mark.parametrize("name", ERASINGS)
def test_inside_draws_from_the_law_of_torchvision(name: str) -> None:
    theirs, ours = measures(torchvision_boxes(ERASINGS[name])), measures(our_boxes(ERASINGS[name]))
    p_values = {measure: stats.ks_2samp(theirs[measure], ours[measure]).pvalue for measure in theirs}
    assert min(p_values.values()) > SIGNIFICANCE, p_values


@pytest.mark.parametrize("name", ERASINGS)
def test_as_many_images_stay_whole_as_with_torchvision(name: str) -> None:
    theirs, ours = torchvision_boxes(ERASINGS[name]), our_boxes(ERASINGS[name])
    counts = [[(boxes["height"] == 0).sum(), (boxes["height"] > 0).sum()] for boxes in (theirs, ours)]
    assert stats.fisher_exact(counts).pvalue > SIGNIFICANCE


def test_wide_aspects_at_a_large_area_leave_the_known_share_whole() -> None:
    """0.134 of 20,000 draws of torchvision's algorithm at 224 px; two such shares differ by 0.0034 (one sigma)."""
    ours = our_boxes(Erasing((224, 224), (0.8, 0.8), (0.3, 3.3)), 20_000)
    assert (ours["height"] == 0).mean() == pytest.approx(0.134, abs=0.0135)


def test_boxes_inside_keep_to_the_image() -> None:
    config = RandomErasingConfig(max_area=0.8, max_aspect=3.0)
    boxes = draw_boxes(5000, (20, 28), config, generator=draws())
    assert (boxes.top >= 0).all()
    assert (boxes.left >= 0).all()
    assert (boxes.top + boxes.height <= 20).all()
    assert (boxes.left + boxes.width <= 28).all()


def test_aspect_is_height_by_width() -> None:
    """An area of 400 pixels at aspect 4: sqrt(400 * 4) = 40 by sqrt(400 / 4) = 10."""
    config = RandomErasingConfig(min_area=0.04, max_area=0.04, min_aspect=4.0, max_aspect=4.0)
    boxes = draw_boxes(50, (100, 100), config, generator=draws())
    assert (boxes.height == 40).all()
    assert (boxes.width == 10).all()


def test_min_aspect_is_one_over_max_aspect_where_omitted() -> None:
    assert RandomErasingConfig(max_aspect=4.0).aspects == (0.25, 4.0)


def test_area_is_shared_among_several_boxes() -> None:
    """Two squares of 0.16 of 100 x 100 pixels each: sides of 40."""
    config = RandomErasingConfig(min_area=0.32, max_area=0.32, boxes=2)
    boxes = draw_boxes(50, (100, 100), config, generator=draws())
    assert boxes.height.shape == (50, 2)
    assert (boxes.height == 40).all()
    assert (boxes.width == 40).all()


def test_two_boxes_lie_apart_in_some_images() -> None:
    before = torch.zeros(200, 1, 32, 32)
    after = augmented(defense((1, 32, 32), min_area=0.125, max_area=0.125, boxes=2, fill=1.0), before)
    areas = after.sum((1, 2, 3))
    assert areas.max() == 2 * 8 * 8
    assert areas.min() < 2 * 8 * 8


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_probability_is_the_share_of_images_erased(probability: float) -> None:
    config = RandomErasingConfig(probability=probability, boxes=2)
    erased = draw_boxes(4000, (32, 32), config, generator=draws()).height > 0
    assert torch.equal(erased[:, 0], erased[:, 1])
    five_sigma = 5 * math.sqrt(probability * (1 - probability) / 4000)
    assert erased[:, 0].double().mean().item() == pytest.approx(probability, abs=five_sigma)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 2), (5, 6)])
def test_over_all_corners_a_wrapped_box_hides_every_pixel_equally_often(height: int, width: int) -> None:
    corners = torch.cartesian_prod(torch.arange(6), torch.arange(7))
    top, left = corners[:, :1], corners[:, 1:]
    boxes = Boxes(top, left, torch.full_like(top, height), torch.full_like(left, width))
    images = erase(torch.zeros(42, 1, 6, 7), boxes, lambda region, image, box: torch.ones(()))
    assert (images.sum(0) == height * width).all()
    assert (images.sum((1, 2, 3)) == height * width).all()


def test_uniform_draws_every_corner_equally_often_whatever_the_size() -> None:
    config = RandomErasingConfig(max_area=0.7, location="uniform")
    boxes = draw_boxes(60_000, (8, 8), config, generator=draws())
    corners, sizes = boxes.top * 8 + boxes.left, boxes.height.unique()
    counts = [torch.bincount(corners[boxes.height == size], minlength=64).numpy() for size in sizes]
    assert min(stats.chisquare(row).pvalue for row in counts) > SIGNIFICANCE


def test_inside_favours_the_centre_and_uniform_does_not() -> None:
    """At areas 0.1 to 0.4 and 64 px, torchvision hides the centre in 0.763 of the images, a corner in < 0.001."""
    maps = {}
    for location in ("inside", "uniform"):
        erasing = defense((1, 64, 64), 4000, location=location)
        augmented(erasing, torch.zeros(4000, 1, 64, 64))
        maps[location] = erasing.evidence()[1]["erased_map"]
    assert maps["inside"][32, 32].item() == pytest.approx(0.763, abs=0.03)
    assert maps["inside"][0, 0].item() < 0.005
    assert maps["uniform"][32, 32].item() == pytest.approx(0.25, abs=0.03)
    assert maps["uniform"][0, 0].item() == pytest.approx(0.25, abs=0.03)


def test_fixed_centre_leaves_equal_margins() -> None:
    after = augmented(defense((1, 32, 32), location="fixed_centre", fill=1.0), torch.zeros(64, 1, 32, 32))
    for mask in after[:, 0] == 1:
        rows, columns = bounds(mask)
        assert rows.start in (32 - rows.stop, 32 - rows.stop - 1)
        assert columns == rows


def test_fixed_corner_starts_at_the_top_left() -> None:
    after = augmented(defense((1, 32, 32), location="fixed_corner", fill=1.0), torch.zeros(64, 1, 32, 32))
    assert (after[:, 0, 0, 0] == 1).all()
    assert len(after.sum((1, 2, 3)).unique()) > 5


def test_per_image_hides_the_same_pixels_in_every_epoch_and_after_a_restart() -> None:
    settings: dict[str, Any] = {"location": "per_image", "probability": 0.8, "boxes": 2, "fill": 9.0}
    erasing, order = defense(**settings), torch.randperm(64, generator=draws("order"))
    first = augmented(erasing, photos(), "epoch 1")
    second = erasing.augment(photos()[order], indices=order, generator=draws("epoch 2"))
    assert torch.equal(second, first[order])
    assert torch.equal(augmented(defense(**settings), photos(), "epoch 3"), first)
    assert len(changed(photos(), first).flatten(1).unique(dim=0)) > 30


def test_mean_fill_is_the_mean_colour_of_the_training_images() -> None:
    after = augmented(defense(location="fixed_corner"), photos())
    assert torch.equal(after[:, :, 0, 0], training_facts().channel_mean.expand(64, 3))


def test_a_number_fills_every_channel() -> None:
    after = augmented(defense(location="fixed_corner", fill=0.25), photos())
    assert (after[:, :, 0, 0] == 0.25).all()


def test_an_integer_is_a_number_to_fill_with() -> None:
    assert RandomErasingConfig(fill=0).fill == 0.0


def test_box_colour_is_one_normal_colour_for_each_box() -> None:
    erasing = defense(images=600, fill="box_colour", location="fixed_corner", min_area=0.2)
    after = augmented(erasing, photos(images=600))
    assert torch.equal(after[:, :, 0, 0], after[:, :, 13, 13])  # sqrt(0.2) * 32 = 14.3
    assert stats.kstest(after[:, :, 0, 0].flatten().numpy(), "norm").pvalue > SIGNIFICANCE


def test_a_box_over_an_edge_has_one_colour() -> None:
    erasing = defense((1, 16, 16), fill="box_colour", location="uniform")
    after = augmented(erasing, torch.zeros(64, 1, 16, 16))
    assert all(len(image.unique()) == 2 for image in after)


def test_pixel_noise_is_normal_and_new_for_each_pixel() -> None:
    before = torch.full((64, 3, 32, 32), 7.0)
    after = augmented(defense(fill="pixel_noise"), before)
    noise = after[after != before]
    assert stats.kstest(noise.numpy(), "norm").pvalue > SIGNIFICANCE
    assert len(noise.unique()) > 0.99 * len(noise)


def test_blur_keeps_a_flat_image() -> None:
    flat = torch.full((8, 3, 32, 32), 0.3)
    torch.testing.assert_close(augmented(defense(fill="blur"), flat), flat)


def test_blur_leaves_only_the_mean_colours_of_sixteen_cells() -> None:
    """A 16 x 16 corner is 4 x 4 cells of 4 x 4 pixels: moving pixels within each cell must not show."""
    settings: dict[str, Any] = {"fill": "blur", "location": "fixed_corner", "min_area": 0.25, "max_area": 0.25}
    before = photos(images=4)
    cells = before[:, :, :16, :16].unflatten(3, (4, 4)).unflatten(2, (4, 4))
    moved = before.clone()
    moved[:, :, :16, :16] = cells.flip(3, 5).flatten(4, 5).flatten(2, 3)
    assert not torch.equal(moved, before)
    torch.testing.assert_close(augmented(defense(**settings), moved), augmented(defense(**settings), before))


@pytest.mark.parametrize("location", ["inside", "uniform"])
def test_blurring_all_images_at_once_is_blurring_box_by_box(location: Literal["inside", "uniform"]) -> None:
    config = RandomErasingConfig(min_area=0.002, max_aspect=3.0, boxes=2, location=location)
    boxes = draw_boxes(64, (32, 28), config, generator=draws())
    shown = photos((3, 32, 28))
    expected = erase(shown.clone(), boxes, lambda region, image, box: blur(region))
    torch.testing.assert_close(blurred_at_once(shown, boxes), expected, rtol=0, atol=1e-5)
    assert changed(shown, expected).any()


def test_regions_are_views_that_name_their_image_and_box() -> None:
    images = torch.zeros(2, 1, 4, 4)
    column = torch.tensor([[0, 2], [3, 0]])
    boxes = Boxes(column, column, torch.tensor([[2, 1], [2, 0]]), torch.tensor([[1, 1], [1, 4]]))
    named = [(image, box, tuple(region.shape)) for region, image, box in regions(images, boxes)]
    assert named == [(0, 0, (1, 2, 1)), (0, 1, (1, 1, 1)), (1, 0, (1, 1, 1)), (1, 0, (1, 1, 1))]


@pytest.mark.parametrize("boxes", [1, 3])
@pytest.mark.parametrize("location", LOCATIONS)
def test_evidence_is_what_a_look_at_the_images_finds(location: str, boxes: int) -> None:
    shape, settings = (3, 12, 16), {"max_area": 0.9, "max_aspect": 2.0, "probability": 0.9}
    erasing = defense(shape, 70, location=location, boxes=boxes, fill=9.0, **settings)
    before = photos(shape, 70)
    masks = torch.cat([changed(before, augmented(erasing, before, f"batch {batch}")) for batch in range(20)])
    areas = masks.double().mean((1, 2)).numpy()
    facts, tensors = erasing.evidence()
    assert facts["images_seen"] == 1400
    assert facts["mean_erased_area"] == pytest.approx(areas.mean(), abs=1e-12)
    assert facts["unerased_share"] == pytest.approx((areas == 0).mean(), abs=1e-12)
    assert facts["area_histogram"] == np.histogram(areas, bins=20, range=(0, 1))[0].tolist()
    torch.testing.assert_close(tensors["erased_map"], masks.float().mean(0))


def test_evidence_of_one_known_box() -> None:
    """A quarter of 4 x 4 pixels in the top left corner: 2 x 2."""
    erasing = defense((1, 4, 4), location="fixed_corner", min_area=0.25, max_area=0.25)
    augmented(erasing, photos((1, 4, 4), 3))
    facts, tensors = erasing.evidence()
    histogram = [0] * 5 + [3] + [0] * 14  # 0.25 opens the sixth of twenty bins
    assert facts == {"images_seen": 3, "mean_erased_area": 0.25, "unerased_share": 0.0, "area_histogram": histogram}
    assert tensors["erased_map"].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_evidence_before_the_first_image_is_all_zero() -> None:
    facts, tensors = defense().evidence()
    assert facts == {"images_seen": 0, "mean_erased_area": 0.0, "unerased_share": 0.0, "area_histogram": [0] * 20}
    assert not tensors["erased_map"].any()


def test_a_restart_from_a_stored_state_ends_with_the_same_evidence(tmp_path: Path) -> None:
    through, stopped, resumed = (defense(boxes=2, location="uniform") for _ in range(3))
    for erasing in (through, stopped):
        augmented(erasing, photos(), "epoch 1")
    save_state(tmp_path / "state", stopped.state())
    augmented(stopped, photos(), "lost")
    augmented(resumed, photos(), "forgotten")
    resumed.restore(load_state(tmp_path / "state"))
    for erasing in (through, resumed):
        augmented(erasing, photos(), "epoch 2")
    assert resumed.evidence()[0] == through.evidence()[0]
    assert torch.equal(resumed.evidence()[1]["erased_map"], through.evidence()[1]["erased_map"])


def test_a_state_taken_earlier_does_not_change_with_later_batches() -> None:
    erasing = defense()
    augmented(erasing, photos())
    taken = erasing.state()
    kept = {name: tensor.clone() for name, tensor in taken.items()}
    augmented(erasing, photos(images=1100))
    assert erasing.evidence()[0]["images_seen"] == 1164
    assert all(torch.equal(taken[name], kept[name]) for name in kept)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_area": 0.5}, r"min_area 0\.5 is above max_area 0\.4: lower min_area or raise max_area"),
        ({"max_area": 1.2}, r"max_area\n.*less than or equal to 1"),
        ({"min_area": 0.0, "max_area": 0.0}, r"max_area\n.*greater than 0"),
        ({"min_area": -0.1}, r"min_area\n.*greater than or equal to 0"),
        ({"probability": 1.5}, r"probability\n.*less than or equal to 1"),
        ({"max_aspect": 0.5}, r"max_aspect 0\.5 is below 1: .*give min_aspect too"),
        ({"min_aspect": 3.0, "max_aspect": 2.0}, r"min_aspect 3\.0 is above max_aspect 2\.0: lower min_aspect"),
        ({"boxes": 0}, r"boxes\n.*greater than 0"),
        ({"fill": "black"}, r"'mean', 'official', 'box_colour', 'pixel_noise' or 'blur'"),
        ({"location": "centre"}, r"'inside', 'uniform', 'fixed_centre', 'fixed_corner' or 'per_image'"),
        ({"area": 0.3}, r"area\n.*not permitted"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RandomErasingConfig(**settings)


def test_official_fill_is_refused_for_grey_images() -> None:
    with pytest.raises(ConfigError, match=r"fill 'official' has 3 channels but the images have 1: set fill to mean"):
        RandomErasing(RandomErasingConfig(fill="official"), facts=replace(training_facts(), image_shape=(1, 32, 32)))


@pytest.mark.parametrize("fill", FILLS)
def test_settings_survive_json(fill: Any) -> None:
    config = RandomErasingConfig(fill=fill, min_aspect=0.2, max_aspect=3.0, location="uniform", boxes=2)
    assert RandomErasingConfig.model_validate_json(config.model_dump_json()) == config


# Boxes that do not fit


@pytest.mark.parametrize(
    "settings",
    [
        {"min_area": 0.9, "max_area": 0.95, "max_aspect": 3.0},
        {"min_area": 0.8, "max_area": 0.8, "min_aspect": 0.3, "max_aspect": 3.3},
        {"min_area": 0.8, "max_area": 1.0},
    ],
)
def test_the_share_without_a_box_is_that_of_boxes_that_are_drawn(settings: dict[str, float]) -> None:
    """Beside draws of the published algorithm, written anew: ten attempts, each a side that is rounded."""
    config, size, images = RandomErasingConfig.model_validate(settings), 32, 20_000
    low, high = (math.log(bound) for bound in config.aspects)
    draw = np.random.default_rng(0)
    area = draw.uniform(config.min_area, config.max_area, (images, 10)) * size * size
    aspect = np.exp(draw.uniform(low, high, (images, 10)))
    fits = (np.round(np.sqrt(area * aspect)) < size) & (np.round(np.sqrt(area / aspect)) < size)
    assert share_without_box(config, (size, size)) == pytest.approx((~fits.any(1)).mean(), abs=0.012)  # 3 deviations


def test_settings_that_leave_images_whole_say_so() -> None:
    (remark,) = RandomErasingConfig(min_area=0.9, max_area=0.95, max_aspect=3.0).remarks((32, 32))
    assert remark == (
        "areas 0.9 to 0.95 with aspects 0.33 to 3 leave 65% of the images whole: in 10 attempts no box fits into 32 x "
        "32 pixels"
    )
    assert list(RandomErasingConfig(max_area=0.8).remarks((32, 32))) == []
