"""Attack accuracy: how often the evaluation model takes a reconstruction for the identity it aims at."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from workloads.core.errors import ShapeError
from workloads.inversion.attack import AttackConfig
from workloads.metrics.base import METRICS, MetricConfig, ReconstructionEvidence, ReconstructionMetric, Tried
from workloads.metrics.intervals import Scale

ANY = "attack_accuracy_any"
FEWEST_CLASSES_FOR_TOP5 = 11
"""With ten classes or fewer, five guesses cover half of them, and top-5 accuracy would flatter every attack."""


class AttackAccuracyConfig(MetricConfig):
    """Attack accuracy has no settings."""

    kind: Literal["attack_accuracy"] = "attack_accuracy"


@METRICS.register(AttackAccuracyConfig)
class AttackAccuracy(ReconstructionMetric):
    """Fraction of reconstructions that the evaluation model takes for their identity; top-5 too, from 11 classes on.

    Of several attacks on the same people, `attack_accuracy_any` is the fraction of people whom it recognises in at
    least one reconstruction that any of the attacks kept. It is never below the accuracy of one of them.

    Source: Zhang et al., "The Secret Revealer", CVPR 2020, section 4.
    """

    def better(self) -> dict[str, str]:
        """Fewer recognised reconstructions are better."""
        return {"attack_accuracy": "lower", "attack_accuracy_top5": "lower", ANY: "lower"}

    def names(self, classes: int) -> tuple[str, ...]:
        """Top-5 only if there are enough classes for it to mean something."""
        return tuple(self.better())[: 1 if classes < FEWEST_CLASSES_FOR_TOP5 else 2]

    def names_for(self, attack: AttackConfig, classes: int) -> tuple[str, ...]:
        """That of any attack only where there are several."""
        return (*self.names(classes), *((ANY,) if attack.parts() else ()))

    def scale(self, name: str) -> Scale:
        """A reconstruction is recognised or not."""
        return "success"

    def rows(self, evidence: ReconstructionEvidence) -> dict[str, Tensor]:
        """1 where the evaluation model names the identity, else 0."""
        rows = {"attack_accuracy": in_top_k(evidence.logits, evidence.identities, k=1)}
        if evidence.logits.shape[1] >= FEWEST_CLASSES_FOR_TOP5:
            rows["attack_accuracy_top5"] = in_top_k(evidence.logits, evidence.identities, k=5)
        if evidence.tried is not None:
            rows[ANY] = _recognised_in_any(evidence.tried, evidence.identities)
        return rows


def _recognised_in_any(tried: Tried, identities: Tensor) -> Tensor:
    """1.0 where any of what was tried is named as this identity, else 0.0. Shape: identities (N,) to (N,)."""
    recognised = tried.identities[in_top_k(tried.logits, tried.identities, k=1) == 1]
    return torch.isin(identities, recognised).double()


def in_top_k(logits: Tensor, identities: Tensor, *, k: int) -> Tensor:
    """1.0 for each row whose identity has one of the k largest logits, 0.0 for the others.

    Shape: logits (N, C), identities (N,) to (N,).
    Raises:
        ShapeError: if the two disagree on N, or N is 0.
    """
    if len(logits) != len(identities) or len(logits) == 0:
        raise ShapeError(f"{len(logits)} rows of logits do not fit {len(identities)} identities.")
    return (logits.topk(k, dim=1).indices == identities[:, None]).any(1).double()
