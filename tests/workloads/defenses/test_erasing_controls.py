"""Controls of random erasing: fixed pixels, disks, single pixels."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from workloads.core.randomness import generator
from workloads.defenses.base import TrainingFacts
from workloads.defenses.fixed_pixels import FixedPixels, FixedPixelsConfig, hidden_pixels
from workloads.defenses.shape_erasing import ShapeErasing, ShapeErasingConfig, hidden_shapes
from workloads.models.base import Classifier
from workloads.models.small_cnn import SmallCnnConfig
from workloads.training.classifiers import Architecture, load_classifier, save_classifier

SIDE, MANY = 32, 2000
FACTS = TrainingFacts(10, (3, SIDE, SIDE), torch.full((3,), 0.25), lambda *name: generator("job", *name))


def draws() -> torch.Generator:
    return generator("test", "draws")


def network(config: FixedPixelsConfig) -> Classifier:
    model = SmallCnnConfig(width=4, stages=2)
    return Architecture(model=model, classes=3, channels=3, image_size=SIDE, defenses=(config,)).build(seed=1).eval()


# Fixed pixels


@pytest.mark.parametrize("share", [0.5, 0.9, 0.978])
def test_the_share_of_pixels_is_hidden(share: float) -> None:
    hidden = hidden_pixels(FixedPixelsConfig(share=share), (SIDE, SIDE))
    assert hidden.sum() == round(share * SIDE * SIDE)


def test_another_seed_hides_others() -> None:
    first, again, other = (hidden_pixels(FixedPixelsConfig(seed=seed), (SIDE, SIDE)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_network_never_sees_them() -> None:
    config = FixedPixelsConfig(share=0.9)
    hidden = hidden_pixels(config, (SIDE, SIDE))
    images = torch.rand(2, 3, SIDE, SIDE, generator=draws())
    model = network(config)
    assert torch.equal(model(images), model(images.masked_fill(hidden, 0.7)))
    assert not torch.equal(model(images), model(images.masked_fill(~hidden, 0.7)))


def test_a_stored_network_does_not_either(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, config = tmp_path_factory.mktemp("model"), FixedPixelsConfig(share=0.9)
    model = SmallCnnConfig(width=4, stages=2)
    architecture = Architecture(model=model, classes=3, channels=3, image_size=SIDE, defenses=(config,))
    save_classifier(folder, stored := architecture.build(seed=1).eval(), architecture)
    images = torch.rand(2, 3, SIDE, SIDE, generator=draws())
    assert torch.equal(load_classifier(folder, device=torch.device("cpu"))(images), stored(images))


def test_hidden_in_training_alone_the_network_sees_whole_images_in_use() -> None:
    config = FixedPixelsConfig(share=0.5, hide_in_use=False)
    hidden, images = hidden_pixels(config, (SIDE, SIDE)), torch.ones(2, 3, SIDE, SIDE)
    shown = FixedPixels(config, facts=FACTS).augment(images.clone(), indices=torch.arange(2), generator=draws())
    assert torch.equal(shown[0, 0] == 0, hidden)
    model = network(config)
    assert not torch.equal(model(images), model(images.masked_fill(hidden, 0.7)))


# Disks and single pixels


@pytest.mark.parametrize("shape", ["circle", "pixels"])
def test_the_mean_area_is_the_middle_of_the_range(shape: str) -> None:
    config = ShapeErasingConfig.model_validate({"shape": shape, "min_area": 0.1, "max_area": 0.5})
    hidden = hidden_shapes(MANY, (SIDE, SIDE), config, generator=draws())
    # Uniform on a range of 0.4: a standard deviation of 0.4 / sqrt(12).
    assert hidden.double().mean().item() == pytest.approx(0.3, abs=5 * 0.4 / math.sqrt(12 * MANY) + 1e-3)


def test_a_disk_is_round_and_inside() -> None:
    config = ShapeErasingConfig(shape="circle", min_area=0.2, max_area=0.2)
    hidden = hidden_shapes(50, (100, 100), config, generator=draws())
    diameter = 2 * math.sqrt(0.2 * 100 * 100 / math.pi)  # 50.5 pixels
    for mask in hidden:
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        height, width = (int(places.max() - places.min()) + 1 for places in (rows, columns))
        assert height == pytest.approx(diameter, abs=1.5) and width == pytest.approx(diameter, abs=1.5)
        assert mask.sum().item() == pytest.approx(2000, abs=40)
        assert not mask[rows.min(), columns.min()], "the corner of its box is not part of a disk"


def test_single_pixels_are_as_many_as_the_area_and_anywhere() -> None:
    config = ShapeErasingConfig(shape="pixels", min_area=0.25, max_area=0.25)
    hidden = hidden_shapes(MANY, (16, 16), config, generator=draws())
    assert (hidden.sum((1, 2)) == 64).all()
    assert (hidden.double().mean(0) - 0.25).abs().max() < 5 * math.sqrt(0.25 * 0.75 / MANY)


@pytest.mark.parametrize("shape", ["circle", "pixels"])
def test_images_are_spared_by_chance_and_painted_in_the_mean(shape: str) -> None:
    config = ShapeErasingConfig.model_validate({"shape": shape, "probability": 0.25, "min_area": 0.3})
    defense = ShapeErasing(config, facts=FACTS)
    images = torch.ones(MANY, 3, SIDE, SIDE)
    shown = defense.augment(images, indices=torch.arange(MANY), generator=draws())
    erased = (shown != 1).flatten(1).any(1).double().mean().item()
    assert erased == pytest.approx(0.25, abs=5 * math.sqrt(3 / 16 / MANY))
    assert set(shown.unique().tolist()) == {0.25, 1.0}
    evidence = defense.evidence()
    assert evidence.facts["mean_erased_area"] == pytest.approx((shown[:, 0] != 1).double().mean().item())
    assert torch.allclose(evidence.tensors["erased_map"].double(), (shown[:, 0] != 1).double().mean(0))


def test_a_disk_larger_than_a_square_can_hold_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"max_area 0.8 is above 0.785, the largest disk in a square"):
        ShapeErasingConfig(shape="circle", max_area=0.8)
    assert ShapeErasingConfig(shape="pixels", max_area=0.8).max_area == 0.8
