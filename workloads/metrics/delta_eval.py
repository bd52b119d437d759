"""`knn_distance` under the name of the 224-pixel papers."""

from __future__ import annotations

from typing import Literal

from workloads.metrics.base import METRICS, MetricConfig
from workloads.metrics.knn_distance import KnnDistance


class DeltaEvalConfig(MetricConfig):
    """`delta_eval` has no settings."""

    kind: Literal["delta_eval"] = "delta_eval"


@METRICS.register(DeltaEvalConfig)
class DeltaEval(KnnDistance):
    """Squared L2 distance to the nearest private training image, in features of the evaluation model.

    This is `knn_distance` under the name that the 224-pixel papers give it, whose evaluation model is an Inception-v3
    at 299 pixels.

    Source: Struppek et al., "Plug & Play Attacks", ICML 2022, section 5.
    """

    def better(self) -> dict[str, str]:
        """Farther from the private images is better."""
        return {"delta_eval": "higher"}
