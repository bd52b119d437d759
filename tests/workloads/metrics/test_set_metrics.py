"""Metrics of images and of sets against independent code and by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from tests.support.device_traffic import DEVICE, traffic_counted
from tests.support.evidence import evidence, judging, network
from tests.support.neighbours import by_scikit_learn, points
from workloads.core.errors import ShapeError
from workloads.metrics.base import ReconstructionEvidence
from workloads.metrics.fid import Fid, FidConfig, frechet_distance
from workloads.metrics.prdc import Prdc, PrdcConfig, prdc
from workloads.metrics.psnr import Psnr, PsnrConfig
from workloads.metrics.ssim import Ssim, SsimConfig


def sets(reconstructed: Tensor, aimed: list[int], private: Tensor, owners: list[int]) -> ReconstructionEvidence:
    return evidence(aimed, owners, features=reconstructed, private_features=private)


# Frechet distance


def test_a_frechet_distance_is_scipys() -> None:
    first, second = points("first", 50), 2 * points("second", 70) + 1
    covariances = [np.cov(rows.numpy(), rowvar=False) for rows in (first, second)]
    joint = sqrtm(covariances[0] @ covariances[1]).real
    apart = ((first.mean(0) - second.mean(0)) ** 2).sum().item()
    expected = apart + np.trace(covariances[0] + covariances[1] - 2 * joint)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)


class Flat(nn.Module):
    """Pixels as features, as torchmetrics takes a network of one's own."""

    num_features = 12

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def test_a_frechet_distance_is_torchmetrics() -> None:
    first, second = (points(name, rows, 12).view(-1, 3, 2, 2) for name, rows in (("first", 40), ("second", 50)))
    measure = FrechetInceptionDistance(feature=Flat(), normalize=True, input_img_size=(3, 2, 2)).set_dtype(
        torch.float64
    )
    measure.update(first, real=True)
    measure.update(second, real=False)
    expected = measure.compute().item()
    assert frechet_distance(first.flatten(1), second.flatten(1)) == pytest.approx(expected, rel=1e-5)


def test_a_frechet_distance_of_two_normal_distributions_by_hand() -> None:
    # One feature: (mean difference)^2 + (difference of standard deviations)^2. Both sets have deviations 1 and 3.
    first = torch.tensor([[-1.0], [1.0]], dtype=torch.float64) / math.sqrt(2)
    second = 3 * first + 5
    assert frechet_distance(first, second) == pytest.approx(25 + 4)


def test_few_images_of_many_features_have_a_distance_by_hand() -> None:
    # Two rows at m - u and m + u, each times the root of 1/2, have the covariance uu'; the root of uu'vv' has the
    # trace |u . v|. So the distance is 5^2 between the means, plus |u|^2 + |v|^2 - 2 |u . v| = 9 + 32 - 2 x 12.
    u, v, mean = (torch.zeros(20, dtype=torch.float64) for _ in range(3))
    u[0], v[:2], mean[7] = 3, 4, 5
    first, second = (torch.stack((-way, way)) / math.sqrt(2) for way in (u, v))
    assert frechet_distance(first, second + mean) == pytest.approx(25 + 17, rel=1e-12)


def test_a_frechet_distance_of_fewer_images_than_features_to_more_is_numpys() -> None:
    first, second = points("few", 6, 8), points("more", 40, 8)
    covariances = [np.cov(rows.numpy(), rowvar=False) for rows in (first, second)]
    apart = ((first.mean(0) - second.mean(0)) ** 2).sum().item()
    # Eigenvalues rather than scipy's root, which is inexact where a covariance has no inverse.
    joint = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).real.clip(min=0)).sum()
    expected = apart + np.trace(covariances[0] + covariances[1]) - 2 * joint
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)


def test_a_frechet_distance_of_one_image_is_refused() -> None:
    with pytest.raises(ShapeError, match="needs two rows in each set, got 1 and 5"):
        frechet_distance(points("one", 1), points("more", 5))


def test_only_private_images_of_the_identities_attacked_count(tmp_path: Path) -> None:
    reconstructed, private = points("made", 12), points("real", 40)
    aimed, owners = [0] * 6 + [1] * 6, [0] * 10 + [1] * 10 + [2] * 20
    near, far = (
        Fid(FidConfig(resamples=5)).estimates(sets(reconstructed, aimed, images, owners), context=judging(tmp_path))
        for images in (private, torch.cat((private[:20], private[20:] + 100)))
    )
    assert near == far


def test_the_interval_of_a_frechet_distance_holds_it(tmp_path: Path) -> None:
    reconstructed, private = points("made", 12), points("real", 20)
    example = sets(reconstructed, [0] * 6 + [1] * 6, private, [0] * 10 + [1] * 10)
    estimate = Fid(FidConfig(resamples=5)).estimates(example, context=judging(tmp_path))["fid_evaluation"]
    assert estimate.low <= estimate.value <= estimate.high


def test_the_interval_of_a_frechet_distance_is_that_of_people_drawn_with_replacement(tmp_path: Path) -> None:
    people = [torch.arange(3), torch.arange(3, 7), torch.arange(7, 12)]
    private_people = [torch.arange(0, 9), torch.arange(9, 14), torch.arange(14, 20)]
    reconstructed, private = points("made", 12), points("real", 20)
    example = sets(reconstructed, [0] * 3 + [1] * 4 + [2] * 5, private, [0] * 9 + [1] * 5 + [2] * 6)
    context = judging(tmp_path)
    draws, distances = context.generator("bootstrap", "fid_evaluation"), []
    for _ in range(40):
        drawn = torch.randint(3, (3,), generator=draws).tolist()
        rows = reconstructed[torch.cat([people[person] for person in drawn])]
        private_rows = private[torch.cat([private_people[person] for person in drawn])]
        distances.append(frechet_distance(rows, private_rows))
    estimate = Fid(FidConfig(resamples=40)).estimates(example, context=context)["fid_evaluation"]
    low, high = np.quantile(distances, [0.025, 0.975])
    assert estimate.low == pytest.approx(min(low, estimate.value))
    assert estimate.high == pytest.approx(max(high, estimate.value))


# Precision, recall, density and coverage


@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0])
def test_prdc_is_that_of_nearest_neighbour_queries(shift: float) -> None:
    private, reconstructed = points("real", 40), points("made", 25) + shift
    assert prdc(private, reconstructed, k=3) == pytest.approx(by_scikit_learn(private, reconstructed, 3))


def test_recall_counts_images_in_any_ball_of_a_reconstruction_by_hand() -> None:
    # Reconstructions at 0, 1 and 10 have balls that reach to their nearest neighbour: 1, 1 and 9. The image at 4 lies
    # nearest to 1, outside of its ball, but inside that of 10; the one at 30 lies in none. None is in a ball of 4 or 30
    # but 10 (at 6, within 26).
    private, reconstructed = (torch.tensor(rows, dtype=torch.float64)[:, None] for rows in ([4, 30], [0, 1, 10]))
    assert prdc(private, reconstructed, k=1).recall == 0.5
    assert prdc(private, reconstructed, k=1).precision == 1


def test_too_few_reconstructions_are_refused_with_the_way_out(tmp_path: Path) -> None:
    few = sets(points("made", 3), [0] * 3, points("real", 9), [0] * 9)
    with pytest.raises(
        ShapeError, match="got 3 reconstructions and 9 private ones: raise the attack's keep or lower k"
    ):
        Prdc(PrdcConfig()).estimates(few, context=judging(tmp_path))


# Images


def beside_black(*greys: float) -> ReconstructionEvidence:
    """Flat reconstructions, each beside a black private image."""
    images = torch.tensor(greys)[:, None, None, None].expand(-1, 1, 16, 16)
    return evidence([0] * len(greys), [0], images=images)


def test_psnr_by_hand() -> None:
    # Errors of 0.1 everywhere: mean squared error 0.01, 20 dB.
    rows = Psnr(PsnrConfig()).rows(beside_black(0.1, 0.0))
    assert rows["psnr"].tolist() == pytest.approx([20.0, 100.0], abs=1e-4)


def test_ssim_is_computed_where_the_network_is_and_read_once() -> None:
    judge = network().to(DEVICE)
    with traffic_counted() as traffic:
        Ssim(SsimConfig()).rows(evidence([0, 0], [0], network=judge))
    assert len(traffic.reads) == 1


def test_ssim_of_flat_images_by_hand() -> None:
    # No variance, so only the means are left: (2 m n + c1) / (m^2 + n^2 + c1) with n = 0 and c1 = 0.01^2.
    rows = Ssim(SsimConfig()).rows(beside_black(0.5, 0.0))
    assert rows["ssim"].tolist() == pytest.approx([1e-4 / (0.25 + 1e-4), 1.0], abs=1e-5)
