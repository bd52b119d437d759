"""Defects of published evaluation code, each computed beside what is computed here instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.evidence import evidence, judging
from tests.support.neighbours import by_scikit_learn, hits, points
from workloads.metrics.prdc import Prdc, PrdcConfig, prdc
from workloads.models.base import Classifier
from workloads.models.inception_2015 import Inception2015Config
from workloads.models.inception_v3 import InceptionV3, InceptionV3Config
from workloads.training.classifiers import Architecture, load_classifier, save_classifier
from workloads.training.prediction import features_of


def precision_of(reconstructed: Tensor, aimed: list[int], real: Tensor, owners: list[int], folder: Path) -> float:
    example = evidence(aimed, owners, features=reconstructed, private_features=real)
    return Prdc(PrdcConfig()).estimates(example, context=judging(folder))["precision_evaluation"].value


def repeated(identities: list[int], times: int) -> list[int]:
    return [identity for identity in identities for _ in range(times)]


# Class 0: `if cls:` takes it for "no class" and compares it with the whole data set.


def test_class_0_is_compared_with_its_own_images(tmp_path: Path) -> None:
    real, reconstructed = torch.cat((points("own", 8), points("others", 8) + 4)), points("made", 8) + 4
    published, _, _, _ = by_scikit_learn(real, reconstructed, 3)
    expected, _, _, _ = by_scikit_learn(real[:8], reconstructed, 3)
    assert published > expected
    assert precision_of(reconstructed, [0] * 8, real, repeated([0, 1], 8), tmp_path) == pytest.approx(expected)


# Classes: `len(targets)`, so that `targets: all` has the three letters' classes, and a list of two the first two.

REAL = torch.cat([points(f"class {identity}", 6) + 50 * identity for identity in range(5)])
MADE = torch.cat([REAL[:18], REAL[18:] + 1000])  # perfect for classes 0 to 2, hopeless for 3 and 4
PRECISIONS = [1.0, 1.0, 1.0, 0.0, 0.0]


def test_all_classes_attacked_enter_the_mean(tmp_path: Path) -> None:
    published = sum(PRECISIONS[: len("all")]) / len("all")
    assert published == 1.0
    everybody = repeated([0, 1, 2, 3, 4], 6)
    assert precision_of(MADE, everybody, REAL, everybody, tmp_path) == pytest.approx(3 / 5)


def test_the_classes_attacked_are_those_that_were_named(tmp_path: Path) -> None:
    targets = [2, 4]
    published = sum(PRECISIONS[: len(targets)]) / len(targets)
    assert published == 1.0
    reconstructed = torch.cat((MADE[12:18], MADE[24:30]))
    precision = precision_of(reconstructed, repeated(targets, 6), REAL, repeated([0, 1, 2, 3, 4], 6), tmp_path)
    assert precision == pytest.approx((PRECISIONS[2] + PRECISIONS[4]) / 2)


# FID: images scaled to [-1, 1] go into a network that scales them again.


def read_while(run: Callable[[], object], network: Classifier) -> Tensor:
    """The numbers that the first convolution of an Inception network reads while something runs."""
    seen: list[Tensor] = []
    layer = network.get_submodule("body.Conv2d_1a_3x3")
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    run()
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("images", [torch.tensor([0.0, 1.0]), torch.tensor([0, 255], dtype=torch.uint8)])
def test_the_network_of_the_fid_reads_images_scaled_once(images: Tensor) -> None:
    config = Inception2015Config(input_size=75)
    network = Architecture(model=config, classes=2, channels=3, image_size=75).build().eval()
    shown = images[:, None, None, None].expand(2, 3, 75, 75)
    once = 2 * torch.tensor([0.0, 1.0]) - 1
    published = 2 * once - 1
    assert published.tolist() == [-3.0, 1.0]
    read = read_while(lambda: features_of(network, shown), network)
    assert read[:, 0, 0, 0].tolist() == once.tolist()


# Evaluation model: trained with torchvision's change of colours and asked without it.


def test_inception_reads_the_same_numbers_when_trained_and_when_judging(tmp_path: Path) -> None:
    architecture = Architecture(model=InceptionV3Config(), classes=2, channels=3, image_size=299)
    images = torch.rand(2, 3, 299, 299, generator=torch.Generator().manual_seed(5))
    network = architecture.build()
    assert isinstance(network, InceptionV3)
    trained_with = read_while(lambda: network.train().training_logits(network.normalize(images)), network)
    save_classifier(tmp_path, network, architecture)
    judge = load_classifier(tmp_path, device=torch.device("cpu"))
    asked_with = read_while(lambda: features_of(judge, images), judge)
    torch.testing.assert_close(asked_with, trained_with)


def test_the_published_evaluation_model_is_asked_at_another_contrast_than_it_was_trained_at() -> None:
    from torchvision.models.inception import Inception3

    with torch.device("meta"):
        published = Inception3(transform_input=True, init_weights=False)
    normalized = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(5)) * 2 - 1
    trained_with = published._transform_input(normalized)
    contrasts = normalized.std((0, 2, 3)) / trained_with.std((0, 2, 3))
    assert contrasts.tolist() == pytest.approx([1 / 0.458, 1 / 0.448, 1 / 0.450], abs=1e-3)
    ours = Architecture(model=InceptionV3Config(), classes=2, channels=3, image_size=299).build()
    body = ours.get_submodule("body")
    assert isinstance(body, Inception3)
    assert torch.equal(body._transform_input(normalized), normalized)


# Density: counted over reconstructions and divided by private images.


def test_density_is_counted_over_reconstructions() -> None:
    real, reconstructed = points("real", 20), points("made", 10)
    published = sum(hits(real, reconstructed, 3)) / (3 * 20)
    assert published > 0
    assert prdc(real, reconstructed, k=3)[2] == pytest.approx(published * 20 / 10)
