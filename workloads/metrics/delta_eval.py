"""How far reconstructions stay from the private images, by the name the 224-pixel papers give it."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from workloads.metrics.base import METRICS, MetricConfig, ReconstructionEvidence, ReconstructionMetric


class DeltaEvalConfig(MetricConfig):
    kind: Literal["delta_eval"] = "delta_eval"


@METRICS.register(DeltaEvalConfig)
class DeltaEval(ReconstructionMetric):
    """Squared L2 distance to the nearest private training image, in features of the evaluation model.

    The formula of `knn_distance` under the name that the 224-pixel papers give it, whose evaluation model is an
    Inception-v3 at 299 pixels.

    Source: Struppek et al., "Plug & Play Attacks", ICML 2022, section 5.
    """

    def better(self) -> dict[str, str]:
        return {"delta_eval": "higher"}

    def rows(self, evidence: ReconstructionEvidence) -> dict[str, Tensor]:
        return {"delta_eval": evidence.nearest[0]}
