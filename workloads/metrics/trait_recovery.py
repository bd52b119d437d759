"""How many of a person's traits can be read off reconstructions, where the traits are known."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from workloads.core.errors import ShapeError
from workloads.metrics.base import METRICS, MetricConfig, ReconstructionEvidence, ReconstructionMetric


class TraitRecoveryConfig(MetricConfig):
    kind: Literal["trait_recovery"] = "trait_recovery"
    ridge: PositiveFloat = 0.1
    """Added to the diagonal of the covariance of standardised features."""


@METRICS.register(TraitRecoveryConfig)
class TraitRecovery(ReconstructionMetric):
    """Traits read off reconstructions by a linear probe, beside the true ones; needs data whose traits are known.

    The probe is a ridge regression from features of the evaluation model, fitted on the private training images.
    `trait_kinds` is the share of traits that are kinds (hair style, glasses) named rightly. `trait_measures` is, over
    traits that are measures (width of the nose), 1 - squared error / variance among the identities: 1 is exact, 0 is
    what the average person's measures give, and it has no lower bound. Traits that all identities share are left out.

    Source: this project.
    """

    needs_traits = True
    config: TraitRecoveryConfig

    def better(self) -> dict[str, str]:
        return {"trait_kinds": "lower", "trait_measures": "lower"}

    def rows(self, evidence: ReconstructionEvidence) -> dict[str, Tensor]:
        probe = _Probe(evidence.private_features, self.config.ridge)
        kinds, measures = [], []
        for known in evidence.traits.values():
            truth = torch.tensor(known, dtype=torch.float64 if isinstance(known[0], float) else torch.int64)
            shown, wanted = truth[evidence.private.identities], truth[evidence.identities]
            if len(truth.unique()) == 1:
                continue
            if truth.is_floating_point():
                read = probe.fitted(shown[:, None], evidence.features)[:, 0]
                measures.append(1 - (read - wanted).square() / truth.var(correction=0))
            else:
                read = probe.fitted(F.one_hot(shown).double(), evidence.features)
                kinds.append((read.argmax(1) == wanted).double())
        return {"trait_kinds": _mean(kinds, "kinds"), "trait_measures": _mean(measures, "measures")}


def _mean(rows: list[Tensor], what: str) -> Tensor:
    if not rows:
        raise ShapeError(f"trait_recovery: no traits that are {what} differ among the identities: leave it out.")
    return torch.stack(rows).mean(0)


class _Probe:
    """Ridge regression from standardised features; the constant is not shrunk."""

    def __init__(self, features: Tensor, ridge: float) -> None:
        self._mean = features.double().mean(0)
        self._scale = features.double().std(0, correction=0).clamp(min=1e-12)
        self._inputs = (features.double() - self._mean) / self._scale
        penalty = ridge * torch.eye(self._inputs.shape[1], dtype=torch.float64)
        self._covariance = self._inputs.T @ self._inputs / len(features) + penalty

    def fitted(self, answers: Tensor, features: Tensor) -> Tensor:
        """What a probe fitted to these answers says of other features. Shape: (N, K), (R, F) to (R, K)."""
        centre = answers.mean(0)
        weights = torch.linalg.solve(self._covariance, self._inputs.T @ (answers - centre) / len(answers))
        return (features.double() - self._mean) / self._scale @ weights + centre
