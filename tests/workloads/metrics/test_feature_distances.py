"""Distances to the nearest private image: in features, in a face network's unit vectors, in a network's maps."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.support.evidence import evidence, judging, network
from workloads.core.errors import ShapeError
from workloads.metrics.base import positions_by_content
from workloads.metrics.delta_eval import DeltaEval, DeltaEvalConfig
from workloads.metrics.delta_face import DeltaFace, DeltaFaceConfig
from workloads.metrics.knn_distance import KnnDistance, KnnDistanceConfig
from workloads.metrics.perceptual_distance import PerceptualDistance, PerceptualDistanceConfig
from workloads.models.base import Classifier, stage_outputs
from workloads.models.facenet160 import Facenet160Config
from workloads.models.small_cnn import SmallCnnConfig

RECONSTRUCTED = torch.tensor([[0.0, 1.0], [3.0, 3.0]])
PRIVATE = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])


def test_delta_eval_is_the_squared_distance_to_the_nearest_of_the_identity() -> None:
    example = evidence([0, 1], [0, 1, 1], features=RECONSTRUCTED, private_features=PRIVATE)
    # (0, 1) to (0, 0), the only one of identity 0, and (3, 3) to (3, 4).
    assert DeltaEval(DeltaEvalConfig()).rows(example)["delta_eval"].tolist() == [1.0, 1.0]


def knn_distances(reconstructed: Tensor, private: Tensor) -> list[float]:
    example = evidence([0, 1], [0, 1, 1], features=reconstructed, private_features=private)
    return KnnDistance(KnnDistanceConfig()).rows(example)["knn_distance"].tolist()


def test_knn_distance_is_that_over_the_distance_between_private_images_by_hand() -> None:
    # Squared distances of the private images: 25, 1 and 18, each of two ordered pairs out of nine: 88 / 9 on average.
    assert knn_distances(RECONSTRUCTED, PRIVATE) == pytest.approx([9 / 88, 9 / 88])


def test_knn_distance_does_not_depend_on_the_scale_of_features() -> None:
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    moved = [7 * features @ turn + 3 for features in (RECONSTRUCTED, PRIVATE)]
    assert knn_distances(*moved) == pytest.approx(knn_distances(RECONSTRUCTED, PRIVATE))


def test_private_images_that_look_alike_to_a_judge_are_no_scale() -> None:
    with pytest.raises(ShapeError, match="all private images have the same features"):
        knn_distances(RECONSTRUCTED, torch.ones(3, 2))


# The face network


@pytest.fixture
def delta_face(tmp_path: Path) -> DeltaFace:
    """The metric with a file for weights, which nothing here reads."""
    save_file({"any": torch.zeros(1)}, tmp_path / "weights.safetensors")
    return DeltaFace(DeltaFaceConfig(extractor=Facenet160Config(weights=str(tmp_path / "weights.safetensors"))))


@pytest.mark.parametrize(
    ("reconstructed", "private", "expected"),
    [
        ([3.0, 0.0], [7.0, 0.0], 0.0),  # the same direction
        ([3.0, 0.0], [0.0, 0.2], 2.0),  # at a right angle: 1 + 1
        ([3.0, 0.0], [-1.0, 0.0], 4.0),  # opposite: 2 squared
        ([3.0, 4.0], [1.0, 0.0], 0.8),  # (0.6 - 1)^2 + 0.8^2
    ],
)
def test_delta_face_compares_directions_by_hand(
    delta_face: DeltaFace, reconstructed: list[float], private: list[float], expected: float
) -> None:
    example = evidence([0], [0], features=torch.tensor([reconstructed]), private_features=torch.tensor([private]))
    assert delta_face.rows(example)["delta_face"].tolist() == pytest.approx([expected], abs=1e-6)


def test_delta_face_takes_the_nearest_direction_of_the_identity(delta_face: DeltaFace) -> None:
    private = torch.tensor([[0.0, 1.0], [9.0, 0.0], [1.0, 1.0]])
    example = evidence([0], [0, 1, 0], features=torch.tensor([[1.0, 0.0]]), private_features=private)
    # (1, 1) scaled to unit length: (1 - 1 / sqrt 2)^2 + 1 / 2 = 2 - sqrt 2; (9, 0) is someone else.
    assert delta_face.rows(example)["delta_face"].tolist() == pytest.approx([2 - 2**0.5])


def test_delta_face_asks_for_the_face_network(delta_face: DeltaFace) -> None:
    assert isinstance(delta_face.config.feature_network, Facenet160Config)


# Perceptual distance


class TwoStages(Classifier):
    """Two stages of given weights that scale channels: maps small enough for a calculation by hand."""

    def __init__(self, *weights: Tensor) -> None:
        super().__init__(SmallCnnConfig(input_mean=0.0, input_std=1.0), classes=2, channels=2, image_size=1)
        self.layers = nn.ModuleList(nn.Conv2d(2, 2, 1, bias=False) for _ in weights)
        self.head = nn.Identity()
        for layer, weight in zip(self.layers, weights, strict=True):
            layer.weight = nn.Parameter(weight[:, :, None, None])

    def features(self, normalized: Tensor) -> Tensor:
        for layer in self.layers:
            normalized = layer(normalized)
        return normalized.flatten(1)

    def stages(self) -> list[tuple[str, nn.Module]]:
        return [(str(index), layer) for index, layer in enumerate(self.layers)]


def test_perceptual_distance_by_hand() -> None:
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    drop = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    reconstructed, private = torch.tensor([[0.6, 0.8]]), torch.tensor([[0, 255]], dtype=torch.uint8)
    example = evidence(
        [0],
        [0],
        images=reconstructed[:, :, None, None],
        private_images=private[:, :, None, None],
        network=TwoStages(swap, drop),
    )
    # Stage 1: (0.8, 0.6) beside (1, 0): 0.2^2 + 0.6^2 = 0.4. Stage 2: (0.8, 0.8) beside (1, 1): the same direction.
    rows = PerceptualDistance(PerceptualDistanceConfig()).rows(example)
    assert rows["perceptual_distance_evaluation"].tolist() == pytest.approx([0.4], abs=1e-6)


def test_perceptual_distance_of_identical_images_is_zero() -> None:
    private = torch.randint(256, (3, 1, 16, 16), generator=torch.Generator().manual_seed(7), dtype=torch.uint8)
    example = evidence([0, 1, 2], [0, 1, 2], images=private.float() / 255, private_images=private)
    rows = PerceptualDistance(PerceptualDistanceConfig()).rows(example)
    assert rows["perceptual_distance_evaluation"].tolist() == [0, 0, 0]


def test_perceptual_distance_grows_with_what_is_added() -> None:
    private = torch.randint(60, 190, (1, 1, 16, 16), generator=torch.Generator().manual_seed(8), dtype=torch.uint8)
    noise = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(9))
    images = torch.cat([(private.float() / 255 + size * noise).clamp(0, 1) for size in (0.0, 0.03, 0.1, 0.3)])
    rows = PerceptualDistance(PerceptualDistanceConfig()).rows(
        evidence([0] * 4, [0], images=images, private_images=private)
    )
    distances = rows["perceptual_distance_evaluation"]
    assert torch.equal(distances, distances.sort().values) and len(distances.unique()) == 4


def test_a_network_without_maps_has_no_perceptual_distance() -> None:
    class Flat(TwoStages):
        def stages(self) -> list[tuple[str, nn.Module]]:
            return [("flat", nn.Flatten())]

    with pytest.raises(ShapeError, match="evaluation has no feature maps: take a convolutional extractor"):
        images = torch.zeros(1, 2, 1, 1)
        example = evidence([0], [0], images=images, private_images=images.byte(), network=Flat(torch.eye(2)))
        PerceptualDistance(PerceptualDistanceConfig()).rows(example)


def test_looking_at_stages_leaves_no_hook_behind() -> None:
    model = network()
    maps = stage_outputs(model, torch.zeros(2, 1, 16, 16))
    assert [stage.shape for stage in maps] == [(2, 4, 8, 8), (2, 8, 4, 4)]
    assert not any(layer._forward_hooks for layer in model.modules())


# What metrics share


def test_images_by_content_come_in_the_same_order_wherever_they_stand() -> None:
    images = torch.randint(256, (9, 1, 4, 4), generator=torch.Generator().manual_seed(10), dtype=torch.uint8)
    chosen, order = torch.arange(9) % 2 == 0, torch.randperm(9, generator=torch.Generator().manual_seed(11))
    first, second = (
        images[positions_by_content(images, chosen)],
        images[order][positions_by_content(images[order], chosen[order])],
    )
    assert len(first) == 5 and torch.equal(first, second)


def test_rows_become_means_with_intervals_over_identities(tmp_path: Path) -> None:
    example = evidence([0, 0, 1, 1], [0, 1, 1], features=RECONSTRUCTED[[0, 0, 1, 1]], private_features=2 * PRIVATE)
    estimate = DeltaEval(DeltaEvalConfig()).estimates(example, context=judging(tmp_path))["delta_eval"]
    # (0, 1) to (0, 0): 1; (3, 3) to (0, 2): 9 + 1, nearer than (6, 8).
    assert (estimate.value, estimate.n, estimate.method) == (5.5, 2, "t of the logarithm over identities")
    # Standard error 4.5; t of one degree is 12.7062.
    assert estimate.high == pytest.approx(5.5 * math.exp(12.7062 * 4.5 / 5.5), rel=1e-4)
