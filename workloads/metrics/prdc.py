"""Precision, recall, density and coverage of the reconstructions of each identity."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from workloads.errors import ShapeError
from workloads.metrics.base import METRICS, Draws, JudgedMetric, MetricConfig, ReconstructionEvidence
from workloads.metrics.intervals import Estimate, bootstrap_over_groups

NAMES = ("precision", "recall", "density", "coverage")


class PrdcConfig(MetricConfig):
    kind: Literal["prdc"] = "prdc"
    k: PositiveInt = 3
    """Neighbours whose distance is a point's radius."""


@METRICS.register(PrdcConfig)
class Prdc(JudgedMetric):
    """How much of a person's images the reconstructions resemble (precision, density) and span (recall, coverage).

    In features of the evaluation model, which the names say; for each identity attacked, then the mean. Precision is
    that of the published code: a reconstruction counts when it lies within the radius of the private image nearest to
    it. Density is the standard one, over k times the reconstructions; the published code divides by private images.

    Source: Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", ICML 2020; for model
    inversion Struppek et al., "Plug & Play Attacks", ICML 2022.
    """

    better: ClassVar = {f"{name}_evaluation": "lower" for name in NAMES}
    config: PrdcConfig

    @property
    def fewest_reconstructions(self) -> int:
        return self.config.k + 1

    def estimates(self, evidence: ReconstructionEvidence, *, draws: Draws) -> dict[str, Estimate]:
        attacked = evidence.identities.unique()
        rows = []
        for identity in attacked:
            made = evidence.features[evidence.identities == identity].double()
            real = evidence.private_features[evidence.private_identities == identity].double()
            if min(len(made), len(real)) <= self.config.k:
                raise ShapeError(
                    f"prdc with k {self.config.k} needs more images than that of each identity, got {len(made)} "
                    f"reconstructions and {len(real)} private ones: raise the attack's keep or lower k."
                )
            rows.append(prdc(real, made, k=self.config.k))
        values = torch.tensor(rows, dtype=torch.float64)
        return {
            f"{name}_evaluation": bootstrap_over_groups(column, attacked, generator=draws(f"{name}_evaluation"))
            for name, column in zip(NAMES, values.T, strict=True)
        }


def prdc(real: Tensor, made: Tensor, *, k: int) -> tuple[float, float, float, float]:
    """Precision, recall, density and coverage. Shape: real (N, F), made (M, F), both with more than k rows."""
    distances = torch.cdist(real, made, compute_mode="donot_use_mm_for_euclid_dist")
    real_radius, made_radius = (_radii(own, k) for own in (real, made))
    inside = distances <= real_radius[:, None]
    precision = _within_nearest(distances, real_radius)
    recall = _within_nearest(distances.T, made_radius)
    density = inside.double().sum().item() / (k * len(made))
    return precision, recall, density, inside.any(1).double().mean().item()


def _radii(points: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th nearest other one. Shape: (N, F) to (N,)."""
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.kthvalue(k + 1, dim=1).values  # the nearest is the point itself


def _within_nearest(distances: Tensor, radii: Tensor) -> float:
    """Share of columns that lie within the radius of the row nearest to them. Shape: (N, M), (N,)."""
    nearest, which = distances.min(0)
    return (nearest <= radii[which]).double().mean().item()
