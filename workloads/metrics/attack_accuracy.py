"""Attack accuracy: how often the evaluation model takes a reconstruction for the identity it aims at."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from workloads.core.errors import ShapeError
from workloads.metrics.base import METRICS, MetricConfig, ReconstructionEvidence, ReconstructionMetric
from workloads.metrics.intervals import Scale

FEWEST_CLASSES_FOR_TOP5 = 11
"""With ten classes or fewer, five guesses cover half of them, and top-5 accuracy would flatter every attack."""


class AttackAccuracyConfig(MetricConfig):
    """Attack accuracy has no settings."""

    kind: Literal["attack_accuracy"] = "attack_accuracy"


@METRICS.register(AttackAccuracyConfig)
class AttackAccuracy(ReconstructionMetric):
    """Fraction of reconstructions that the evaluation model takes for their identity; top-5 too, from 11 classes on.

    Source: Zhang et al., "The Secret Revealer", CVPR 2020, section 4.
    """

    def better(self) -> dict[str, str]:
        """Fewer recognised reconstructions are better."""
        return {"attack_accuracy": "lower", "attack_accuracy_top5": "lower"}

    def names(self, classes: int) -> tuple[str, ...]:
        """Top-5 only if there are enough classes for it to mean something."""
        return tuple(self.better())[: 1 if classes < FEWEST_CLASSES_FOR_TOP5 else 2]

    def scale(self, name: str) -> Scale:
        """A reconstruction is recognised or not."""
        return "success"

    def rows(self, evidence: ReconstructionEvidence) -> dict[str, Tensor]:
        """1 where the evaluation model names the identity, else 0."""
        rows = {"attack_accuracy": in_top_k(evidence.logits, evidence.identities, k=1)}
        if evidence.logits.shape[1] >= FEWEST_CLASSES_FOR_TOP5:
            rows["attack_accuracy_top5"] = in_top_k(evidence.logits, evidence.identities, k=5)
        return rows


def in_top_k(logits: Tensor, identities: Tensor, *, k: int) -> Tensor:
    """1.0 for each row whose identity has one of the k largest logits, 0.0 for the others.

    Shape: logits (N, C), identities (N,) to (N,).
    Raises:
        ShapeError: if the two disagree on N, or N is 0.
    """
    if len(logits) != len(identities) or len(logits) == 0:
        raise ShapeError(f"{len(logits)} rows of logits do not fit {len(identities)} identities.")
    return (logits.topk(k, dim=1).indices == identities[:, None]).any(1).double()
