"""Natural accuracy: how often a classifier is right about a held-out private image."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from workloads.core.errors import ShapeError
from workloads.metrics.base import METRICS, ClassifierMetric, HeldOutEvidence, MetricConfig


class NaturalAccuracyConfig(MetricConfig):
    """Natural accuracy has no settings."""

    kind: Literal["natural_accuracy"] = "natural_accuracy"


@METRICS.register(NaturalAccuracyConfig)
class NaturalAccuracy(ClassifierMetric):
    """Fraction of held-out private images that are classified correctly.

    Source: the utility axis of Tran et al., "Random Erasing vs. Model Inversion", TMLR 2025.
    """

    def better(self) -> dict[str, str]:
        """More is better."""
        return {"natural_accuracy": "higher"}

    def rows(self, evidence: HeldOutEvidence) -> dict[str, Tensor]:
        """1 for each held-out image that is named right, else 0."""
        if len(evidence.logits) != len(evidence.identities):
            raise ShapeError(f"{len(evidence.logits)} logits do not fit {len(evidence.identities)} identities.")
        return {"natural_accuracy": (evidence.logits.argmax(1) == evidence.identities).double()}
