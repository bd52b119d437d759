"""How close reconstructions come to the nearest private image of their identity."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from workloads.errors import ShapeError
from workloads.metrics.base import METRICS, MetricConfig, ReconstructionEvidence, ReconstructionMetric


class KnnDistanceConfig(MetricConfig):
    kind: Literal["knn_distance"] = "knn_distance"


@METRICS.register(KnnDistanceConfig)
class KnnDistance(ReconstructionMetric):
    """Squared L2 distance, in features of the evaluation model, to the nearest private training image of the identity.

    Source: Chen et al., "Knowledge-Enriched Distributional Model Inversion Attacks", ICCV 2021.
    """

    better: ClassVar = {"knn_distance": "higher"}

    def rows(self, evidence: ReconstructionEvidence) -> dict[str, Tensor]:
        distances, _ = nearest_private(
            evidence.features, evidence.identities, evidence.private_features, evidence.private_identities
        )
        return {"knn_distance": distances}


def nearest_private(
    features: Tensor, identities: Tensor, private_features: Tensor, private_identities: Tensor
) -> tuple[Tensor, Tensor]:
    """Squared distance to the nearest private image of the same identity, and that image's index.

    Shape: features (R, F), identities (R,), private_features (N, F), private_identities (N,)
        to (R,) float64, (R,) int64.
    Raises:
        ShapeError: if an identity has no private image.
    """
    distances = torch.empty(len(features), dtype=torch.float64)
    indices = torch.empty(len(features), dtype=torch.int64)
    for identity in identities.unique().tolist():
        rows = (identities == identity).nonzero().flatten()
        own = (private_identities == identity).nonzero().flatten()
        if len(own) == 0:
            raise ShapeError(f"identity {identity} has no private image to measure a distance to.")
        squared = (features[rows].double()[:, None] - private_features[own].double()[None]).square().sum(2)
        distances[rows], nearest = squared.min(1)
        indices[rows] = own[nearest]
    return distances, indices
