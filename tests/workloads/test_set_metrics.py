"""Metrics of images and of sets against independent code and by hand, without the defects of published ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from workloads.errors import ShapeError
from workloads.metrics.fid import Fid, FidConfig, frechet_distance
from workloads.metrics.prdc import Prdc, PrdcConfig, prdc
from workloads.metrics.psnr import Psnr, PsnrConfig
from workloads.metrics.ssim import Ssim, SsimConfig
from workloads.randomness import generator


def points(name: str, rows: int, features: int = 4) -> Tensor:
    return torch.randn(rows, features, dtype=torch.float64, generator=generator("test", name))


# Frechet distance


def test_a_frechet_distance_is_scipys() -> None:
    first, second = points("first", 50), 2 * points("second", 70) + 1
    covariances = [np.cov(own.numpy(), rowvar=False) for own in (first, second)]
    joint = sqrtm(covariances[0] @ covariances[1]).real
    apart = ((first.mean(0) - second.mean(0)) ** 2).sum().item()
    expected = apart + np.trace(covariances[0] + covariances[1] - 2 * joint)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)


def test_a_frechet_distance_of_two_normal_laws_by_hand() -> None:
    # One feature: (mean difference)^2 + (difference of standard deviations)^2. Both sets have deviations 1 and 3.
    first = torch.tensor([[-1.0], [1.0]], dtype=torch.float64) / math.sqrt(2)
    second = 3 * first + 5
    assert frechet_distance(first, second) == pytest.approx(25 + 4)


def test_few_images_of_many_features_have_a_distance_too() -> None:
    assert frechet_distance(points("few", 3, 20), points("more", 5, 20)) > 0
    with pytest.raises(ShapeError, match="needs two rows in each set, got 1 and 5"):
        frechet_distance(points("one", 1), points("more", 5))


def test_only_private_images_of_the_identities_attacked_count() -> None:
    made, real = points("made", 12), points("real", 40)
    near = evidence(made, [0] * 6 + [1] * 6, real, [0] * 10 + [1] * 10 + [2] * 20)
    far = evidence(made, [0] * 6 + [1] * 6, torch.cat((real[:20], real[20:] + 100)), [0] * 10 + [1] * 10 + [2] * 20)
    values = [Fid(FidConfig(resamples=5)).estimates(own, draws=draws)["fid_evaluation"] for own in (near, far)]
    assert values[0] == values[1]
    assert values[0].low <= values[0].value <= values[0].high


# Precision, recall, density and coverage


def hits(real: Tensor, made: Tensor, k: int) -> list[int]:
    """How many reconstructions lie in the ball of each private image, by nearest-neighbour queries."""
    radii = NearestNeighbors(n_neighbors=k + 1).fit(real).kneighbors(real)[0][:, -1]
    tree = NearestNeighbors().fit(made)
    return [len(tree.radius_neighbors([own], radius=radius)[1][0]) for own, radius in zip(real, radii, strict=True)]


def by_scikit_learn(real: Tensor, made: Tensor, k: int) -> tuple[float, float, float, float]:
    radii = [NearestNeighbors(n_neighbors=k + 1).fit(own).kneighbors(own)[0][:, -1] for own in (real, made)]
    to_real, which_real = NearestNeighbors(n_neighbors=1).fit(real).kneighbors(made)
    to_made, which_made = NearestNeighbors(n_neighbors=1).fit(made).kneighbors(real)
    precision = (to_real[:, 0] <= radii[0][which_real[:, 0]]).mean()
    recall = (to_made[:, 0] <= radii[1][which_made[:, 0]]).mean()
    counts = np.array(hits(real, made, k))
    return float(precision), float(recall), counts.sum() / (k * len(made)), float((counts > 0).mean())


@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0])
def test_prdc_is_that_of_nearest_neighbour_queries(shift: float) -> None:
    real, made = points("real", 40), points("made", 25) + shift
    assert prdc(real, made, k=3) == pytest.approx(by_scikit_learn(real, made, 3))


def test_density_is_counted_over_reconstructions() -> None:
    # Published code divides by the private images: with half as many reconstructions that is half of it.
    real, made = points("real", 20), points("made", 10)
    published = sum(hits(real, made, 3)) / (3 * 20)
    assert published > 0
    assert prdc(real, made, k=3)[2] == pytest.approx(2 * published)


def test_class_0_is_a_class_like_the_others() -> None:
    # Published code reads class 0 as "no class" and measures it against the whole data set.
    real, made = points("real", 12), points("made", 12)
    zero = evidence(made[:6], [0] * 6, real, [0] * 6 + [1] * 6)
    three = evidence(made[:6], [3] * 6, real, [3] * 6 + [1] * 6)
    metric = Prdc(PrdcConfig())
    assert metric.estimates(zero, draws=draws) == metric.estimates(three, draws=draws)


def test_all_identities_attacked_enter_the_mean_and_no_other() -> None:
    # Published code takes `targets: all` for three classes, the letters of the word.
    real = torch.cat([points(f"real {own}", 6) + 50 * own for own in range(5)])
    owners = [own for own in range(5) for _ in range(6)]
    attacked = [own for own in (1, 2, 4) for _ in range(6)]
    made = torch.cat([real[6:12], real[12:18], real[24:30] + 1000])  # the last one hits nothing
    precision = Prdc(PrdcConfig()).estimates(evidence(made, attacked, real, owners), draws=draws)[
        "precision_evaluation"
    ]
    assert (precision.value, precision.n) == (pytest.approx(2 / 3), 3)


def test_too_few_reconstructions_are_refused_with_the_way_out() -> None:
    few = evidence(points("made", 3), [0] * 3, points("real", 9), [0] * 9)
    with pytest.raises(
        ShapeError, match="got 3 reconstructions and 9 private ones: raise the attack's keep or lower k"
    ):
        Prdc(PrdcConfig()).estimates(few, draws=draws)


# Images


def test_psnr_by_hand() -> None:
    # Errors of 0.1 everywhere: mean squared error 0.01, 20 dB. The private images are black.
    shown = torch.stack((torch.full((1, 16, 16), 0.1), torch.zeros(1, 16, 16)))
    rows = Psnr(PsnrConfig()).rows(evidence(points("made", 2), [0, 0], points("real", 2), [0, 0], shown=shown))
    assert rows["psnr"].tolist() == pytest.approx([20.0, 100.0], abs=1e-4)


def test_ssim_of_flat_images_by_hand() -> None:
    # No variance, so only the means are left: (2 m n + c1) / (m^2 + n^2 + c1) with n = 0 and c1 = 0.01^2.
    shown = torch.stack((torch.full((1, 16, 16), 0.5), torch.zeros(1, 16, 16)))
    rows = Ssim(SsimConfig()).rows(evidence(points("made", 2), [0, 0], points("real", 2), [0, 0], shown=shown))
    assert rows["ssim"].tolist() == pytest.approx([1e-4 / (0.25 + 1e-4), 1.0], abs=1e-5)
