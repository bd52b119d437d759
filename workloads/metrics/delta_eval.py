"""The distance to the nearest private image as papers print it, which depends on the scale of features."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from workloads.metrics.base import METRICS, MetricConfig, ReconstructionEvidence, ReconstructionMetric


class DeltaEvalConfig(MetricConfig):
    """`delta_eval` has no settings."""

    kind: Literal["delta_eval"] = "delta_eval"


@METRICS.register(DeltaEvalConfig)
class DeltaEval(ReconstructionMetric):
    """Squared L2 distance to the nearest private training image, in features of the evaluation model.

    The 64-pixel papers call it KNN distance. The 224-pixel papers' evaluation model is an Inception-v3 at 299 pixels.
    Its unit depends on the training of that model: for distances by several evaluation models, see `knn_distance`.

    Source: Struppek et al., "Plug & Play Attacks", ICML 2022, section 5; Chen et al., "Knowledge-Enriched
    Distributional Model Inversion Attacks", ICCV 2021.
    """

    def better(self) -> dict[str, str]:
        """Farther from the private images is better."""
        return {"delta_eval": "higher"}

    def rows(self, evidence: ReconstructionEvidence) -> dict[str, Tensor]:
        """The squared feature distance to the nearest private image."""
        return {"delta_eval": evidence.nearest[0]}
