"""How close reconstructions come to the nearest private image of their identity, in units of the private images."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from workloads.metrics.base import METRICS, MetricConfig, ReconstructionEvidence, ReconstructionMetric


class KnnDistanceConfig(MetricConfig):
    """`knn_distance` has no settings."""

    version: ClassVar[int] = 2
    kind: Literal["knn_distance"] = "knn_distance"


@METRICS.register(KnnDistanceConfig)
class KnnDistance(ReconstructionMetric):
    """Squared distance, in features of the evaluation model, to the nearest private training image of the identity.

    It is divided by the mean squared distance between two private images: a reconstruction at 1 is as far from the
    nearest image of its person as any two private images are from each other. Features of another evaluation model,
    or of another training of the same, have another scale; without the division, distances by several of them could
    neither be compared nor averaged. `delta_eval` is the distance that papers print.

    Source: the distance Chen et al., "Knowledge-Enriched Distributional Model Inversion Attacks", ICCV 2021; its
    scale, as the total variance in Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML
    2019, section 2, leaves it unchanged by moving, turning and scaling of all features.
    """

    def better(self) -> dict[str, str]:
        """Farther from the private images is better."""
        return {"knn_distance": "higher"}

    def rows(self, evidence: ReconstructionEvidence) -> dict[str, Tensor]:
        """The squared feature distance to the nearest private image, over that between private images."""
        return {"knn_distance": evidence.nearest[0] / evidence.between_private_images}
