"""Natural accuracy: how often a classifier is right about a held-out private image."""

from __future__ import annotations

from typing import Literal

from workloads.core.errors import ShapeError
from workloads.metrics.base import METRICS, ClassifierMetric, HeldOutEvidence, MetricConfig
from workloads.metrics.intervals import Estimate, wilson


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

    def estimates(self, evidence: HeldOutEvidence) -> dict[str, Estimate]:
        """The share of held-out images named right, with Wilson's interval."""
        if len(evidence.logits) != len(evidence.identities):
            raise ShapeError(f"{len(evidence.logits)} logits do not fit {len(evidence.identities)} identities.")
        correct = int((evidence.logits.argmax(1) == evidence.identities).sum())
        return {"natural_accuracy": wilson(correct, len(evidence.identities))}
