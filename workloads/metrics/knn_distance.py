"""How close reconstructions come to the nearest private image of their identity."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from workloads.metrics.base import METRICS, MetricConfig, ReconstructionEvidence, ReconstructionMetric


class KnnDistanceConfig(MetricConfig):
    """`knn_distance` has no settings."""

    kind: Literal["knn_distance"] = "knn_distance"


@METRICS.register(KnnDistanceConfig)
class KnnDistance(ReconstructionMetric):
    """Squared L2 distance, in features of the evaluation model, to the nearest private training image of the identity.

    Source: Chen et al., "Knowledge-Enriched Distributional Model Inversion Attacks", ICCV 2021.
    """

    def better(self) -> dict[str, str]:
        """Farther from the private images is better."""
        return {"knn_distance": "higher"}

    def rows(self, evidence: ReconstructionEvidence) -> dict[str, Tensor]:
        """The squared feature distance to the nearest private image."""
        (name,) = self.better()
        return {name: evidence.nearest[0]}
