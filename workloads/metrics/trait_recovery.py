"""How well a person's traits can be read off reconstructions, if the data set knows them."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from workloads.core.errors import ShapeError
from workloads.metrics.base import METRICS, MetricConfig, ReconstructionEvidence, ReconstructionMetric
from workloads.metrics.intervals import Scale


class TraitRecoveryConfig(MetricConfig):
    """How the probe that reads traits is fitted."""

    kind: Literal["trait_recovery"] = "trait_recovery"
    ridge: PositiveFloat = 0.1
    """Strength of the ridge: this is added to the diagonal of the covariance of standardised features."""


@METRICS.register(TraitRecoveryConfig)
class TraitRecovery(ReconstructionMetric):
    """How well a linear probe reads true traits off reconstructions; needs a data set that knows its traits.

    The probe is a ridge regression from features of the evaluation model, fitted on the private training images.
    `trait_kinds` is the share of categorical traits (hair style, glasses) that it reads correctly. `trait_measures` is
    1 - squared error / variance among the identities, averaged over numeric traits (width of the nose): 1 is exact, 0
    is what guessing the mean gives, and there is no lower bound. Traits that all identities share are left out.

    Source: this project.
    """

    needs_traits = True
    config: TraitRecoveryConfig

    def better(self) -> dict[str, str]:
        """Fewer recovered traits are better."""
        return {"trait_kinds": "lower", "trait_measures": "lower"}

    def scale(self, name: str) -> Scale:
        """Kinds are shares; explained variance has no lower bound."""
        return "fraction" if name == "trait_kinds" else "real"

    def rows(self, evidence: ReconstructionEvidence) -> dict[str, Tensor]:
        """The share of kinds read right, and the variance of measures explained."""
        probe = _Probe(evidence.private_features, self.config.ridge)
        kinds, measures = [], []
        for values in evidence.traits.values():
            truth = torch.tensor(values, dtype=torch.float64 if isinstance(values[0], float) else torch.int64)
            private, correct = truth[evidence.private.identities], truth[evidence.identities]
            if len(truth.unique()) == 1:
                continue
            if truth.is_floating_point():
                predicted = probe.predict(private[:, None], evidence.features)[:, 0]
                measures.append(1 - (predicted - correct).square() / truth.var(correction=0))
            else:
                scores = probe.predict(F.one_hot(private).double(), evidence.features)
                kinds.append((scores.argmax(1) == correct).double())
        return {"trait_kinds": _mean(kinds, "kinds"), "trait_measures": _mean(measures, "measures")}


def _mean(rows: list[Tensor], group: str) -> Tensor:
    if not rows:
        raise ShapeError(f"trait_recovery: no traits that are {group} differ among the identities: leave it out.")
    return torch.stack(rows).mean(0)


class _Probe:
    """Ridge regression from standardised features; the intercept is not shrunk."""

    def __init__(self, features: Tensor, ridge: float) -> None:
        self._mean = features.double().mean(0)
        self._scale = features.double().std(0, correction=0).clamp(min=1e-12)
        self._inputs = (features.double() - self._mean) / self._scale
        penalty = ridge * torch.eye(self._inputs.shape[1], dtype=torch.float64)
        self._covariance = self._inputs.T @ self._inputs / len(features) + penalty

    def predict(self, targets: Tensor, features: Tensor) -> Tensor:
        """Fit the probe to targets and apply it to other features. Shape: (N, K), (R, F) to (R, K)."""
        centre = targets.mean(0)
        weights = torch.linalg.solve(self._covariance, self._inputs.T @ (targets - centre) / len(targets))
        return (features.double() - self._mean) / self._scale @ weights + centre
