"""Reconstructions in feature space, with pixels for features so that what erasing does can be worked out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from torch import Tensor, nn

from tests.support.evidence import evidence, judging
from tests.support.neighbours import by_scikit_learn
from workloads.core.errors import ShapeError
from workloads.defenses.random_erasing import RandomErasingConfig
from workloads.metrics.base import ReconstructionEvidence
from workloads.metrics.feature_space import FeatureSpace, FeatureSpaceConfig, in_plane
from workloads.metrics.geometry import convex_hull, overlap
from workloads.models.base import Classifier
from workloads.models.small_cnn import SmallCnnConfig

SIDE = 4
# A square of 2 x 2 pixels in the corner becomes 0.5 after normalisation.
CORNER = RandomErasingConfig(min_area=0.25, max_area=0.25, location="fixed_corner", fill=0.5)


class Pixels(Classifier):
    """Normalised pixels as features."""

    def __init__(self) -> None:
        super().__init__(SmallCnnConfig(), classes=2, channels=1, image_size=SIDE)
        self.head = nn.Identity()

    def features(self, normalized: Tensor) -> Tensor:
        return normalized.flatten(1)

    def stages(self) -> list[tuple[str, nn.Module]]:
        return []


def people(seed: int, identities: int, count: int = 9) -> Tensor:
    """Shape: (identities * each, 1, 4, 4) uint8."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(256, (identities * count, 1, SIDE, SIDE), generator=draw, dtype=torch.uint8)


def seen(images: Tensor) -> Tensor:
    return ((images.float() / 255 - 0.5) / 0.5).flatten(1)


def corner_erased(images: Tensor) -> Tensor:
    """Features of images whose corner is hidden, worked out apart from the defense."""
    features = seen(images).view(-1, SIDE, SIDE).clone()
    features[:, :2, :2] = 0.5
    return features.flatten(1)


def judged(reconstructed: Tensor, private: Tensor, identities: int = 1) -> ReconstructionEvidence:
    """Features of reconstructions beside private images, as many of each identity as of the others."""
    aimed, owners = (
        torch.arange(identities).repeat_interleave(len(features) // identities).tolist()
        for features in (reconstructed, private)
    )
    fields = {
        "features": reconstructed,
        "private_images": private,
        "private_features": seen(private),
        "network": Pixels(),
    }
    return evidence(aimed, owners, **fields)


def numbers(example: ReconstructionEvidence, folder: Path, **settings: Any) -> dict[str, float]:
    metric = FeatureSpace(FeatureSpaceConfig(**{"erasing": CORNER, "erasures": 1, **settings}))
    estimates = metric.estimates(example, context=judging(folder))
    return {name.removesuffix("_evaluation"): estimate.value for name, estimate in estimates.items()}


def test_the_numbers_are_those_of_scipy_and_scikit_learn(tmp_path: Path) -> None:
    private = people(1, 1)
    reconstructed = seen(people(2, 1, 7)) * 0.8
    clouds = [seen(private).double(), corner_erased(private).double(), reconstructed.double()]
    drawn = PCA(2).fit_transform(torch.cat(clouds).numpy())
    hulls = [convex_hull([(float(x), float(y)) for x, y in cloud]) for cloud in np.split(drawn, [9, 18])]
    manifolds = [by_scikit_learn(real, clouds[2], 3) for real in clouds[:2]]
    to_private, to_erased = (cdist(clouds[2], real, "sqeuclidean").mean() for real in clouds[:2])
    expected = {
        "hull_overlap_private": overlap(hulls[2], hulls[0]),
        "hull_overlap_erased": overlap(hulls[2], hulls[1]),
        "manifold_precision_private": manifolds[0][0],
        "manifold_precision_erased": manifolds[1][0],
        "manifold_recall_private": manifolds[0][1],
        "manifold_recall_erased": manifolds[1][1],
        "distance_ratio": to_private / to_erased,
    }
    assert numbers(judged(reconstructed, private), tmp_path) == pytest.approx(expected, rel=1e-5)


def test_reconstructions_that_are_the_private_images_overlap_them_wholly(tmp_path: Path) -> None:
    private = people(1, 1)
    values = numbers(judged(seen(private), private), tmp_path)
    assert values["hull_overlap_private"] == pytest.approx(1)
    assert (values["manifold_precision_private"], values["manifold_recall_private"]) == (1, 1)
    assert values["hull_overlap_erased"] < 1


def test_reconstructions_that_are_the_erased_images_overlap_those_wholly(tmp_path: Path) -> None:
    private = people(1, 1)
    values = numbers(judged(corner_erased(private), private), tmp_path)
    assert values["hull_overlap_erased"] == pytest.approx(1)
    assert (values["manifold_precision_erased"], values["manifold_recall_erased"]) == (1, 1)
    assert values["hull_overlap_private"] < 1
    assert values["distance_ratio"] > 1


def test_where_nothing_is_erased_both_comparisons_agree(tmp_path: Path) -> None:
    nothing = RandomErasingConfig(probability=0.0)
    values = numbers(judged(seen(people(2, 1)), people(1, 1)), tmp_path, erasing=nothing)
    assert values["hull_overlap_private"] == pytest.approx(values["hull_overlap_erased"])
    assert values["distance_ratio"] == pytest.approx(1)


def test_every_private_image_is_erased_so_many_times(tmp_path: Path) -> None:
    random = RandomErasingConfig(min_area=0.1, max_area=0.4)
    numbers(judged(seen(people(2, 1)), people(1, 1)), tmp_path, erasing=random, erasures=5)
    (panel,) = json.loads((tmp_path / "feature_space_evaluation.json").read_text())
    assert [len(panel[kind]) for kind in ("private", "erased", "reconstructed")] == [9, 45, 9]
    assert len({tuple(point) for point in panel["erased"]}) > 40, "erased otherwise each time"


def test_identities_are_averaged_and_four_are_drawn(tmp_path: Path) -> None:
    reconstructed, private = seen(people(2, 6)), people(1, 6)
    values = numbers(judged(reconstructed, private, identities=6), tmp_path)
    panels = json.loads((tmp_path / "feature_space_evaluation.json").read_text())
    assert [panel["identity"] for panel in panels] == [f"person {identity}" for identity in range(4)]
    overlaps = [
        numbers(judged(reconstructed[start : start + 9], private[start : start + 9]), tmp_path)["hull_overlap_private"]
        for start in range(0, 54, 9)
    ]
    assert values["hull_overlap_private"] == pytest.approx(sum(overlaps) / 6)


def test_the_numbers_are_the_same_for_the_same_job(tmp_path: Path) -> None:
    example, random = judged(seen(people(2, 1)), people(1, 1)), RandomErasingConfig()
    first, second = (numbers(example, tmp_path, erasing=random, erasures=3) for _ in range(2))
    assert first == second


def test_reconstructions_that_are_all_the_same_overlap_nothing(tmp_path: Path) -> None:
    private = people(1, 1)
    values = numbers(judged(seen(private)[:1].expand(5, -1), private), tmp_path)
    assert (values["hull_overlap_private"], values["hull_overlap_erased"]) == (0, 0)


def test_too_few_reconstructions_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="got 3 reconstructions and 9 private ones: raise the attack's keep"):
        numbers(judged(seen(people(2, 1))[:3], people(1, 1)), tmp_path)


@pytest.mark.parametrize(("k", "fewest"), [(1, 3), (3, 4), (5, 6)])
def test_as_many_reconstructions_are_asked_for_as_hulls_and_neighbours_need(k: int, fewest: int) -> None:
    assert FeatureSpace(FeatureSpaceConfig(k=k)).fewest_reconstructions == fewest


def test_the_plane_is_that_of_scikit_learn_but_for_the_signs() -> None:
    points = torch.randn(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    expected = PCA(2).fit_transform(points.numpy())
    plane = in_plane({"private": points[:7], "reconstructed": points[7:]})
    both = np.array(plane["private"] + plane["reconstructed"])
    assert np.abs(both) == pytest.approx(np.abs(expected))


def test_the_largest_loading_of_each_component_is_positive() -> None:
    # Points on two axes of five dimensions: the components are those axes, and must not come out turned round.
    points = torch.zeros(4, 5, dtype=torch.float64)
    points[0, 3], points[1, 3], points[2, 1], points[3, 1] = 2.0, -2.0, 1.0, -1.0
    placed = in_plane({"private": points})["private"]
    assert np.array(placed) == pytest.approx(np.array([[2, 0], [-2, 0], [0, 1], [0, -1]]))
