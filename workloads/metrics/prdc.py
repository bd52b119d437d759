"""Precision, recall, density and coverage of the reconstructions of each identity."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from workloads.context import JobContext
from workloads.core.errors import ShapeError
from workloads.metrics.base import (
    METRICS,
    AttackMetric,
    ExtractorMetricConfig,
    ReconstructionEvidence,
    over_identities,
)
from workloads.metrics.intervals import Estimate

NAMES = ("precision", "recall", "density", "coverage")


class PrdcConfig(ExtractorMetricConfig):
    kind: Literal["prdc"] = "prdc"
    k: PositiveInt = 3
    """Neighbours whose distance is a point's radius."""


@METRICS.register(PrdcConfig)
class Prdc(AttackMetric):
    """How much of a person's images the reconstructions resemble (precision, density) and span (recall, coverage).

    In features of the network that the names say; for each identity attacked, then the mean. Precision is
    that of the published code: a reconstruction counts when it lies within the radius of the private image nearest to
    it. Density is the standard one, over k times the reconstructions; the published code divides by private images.

    Source: Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", ICML 2020; for model
    inversion Struppek et al., "Plug & Play Attacks", ICML 2022.
    """

    config: PrdcConfig

    def better(self) -> dict[str, str]:
        return {f"{name}_{self.config.space}": "lower" for name in NAMES}

    @property
    def fewest_reconstructions(self) -> int:
        return self.config.k + 1

    @property
    def fewest_private_images(self) -> int:
        return self.config.k + 1

    def estimates(self, evidence: ReconstructionEvidence, *, context: JobContext) -> dict[str, Estimate]:
        attacked = evidence.identities.unique()
        rows = []
        for identity in attacked:
            made = evidence.features[evidence.identities == identity].double()
            real = evidence.private_features[evidence.private.identities == identity].double()
            rows.append(prdc(real, made, k=self.config.k))
        columns = torch.tensor(rows, dtype=torch.float64).T
        return over_identities(dict(zip(self.better(), columns, strict=True)), attacked, context)


def prdc(real: Tensor, made: Tensor, *, k: int) -> tuple[float, float, float, float]:
    """Precision, recall, density and coverage of reconstructions of one identity beside its private images.

    Shape: real (N, F), made (M, F).
    Raises:
        ShapeError: unless both have more than k rows.
    """
    if min(len(made), len(real)) <= k:
        raise ShapeError(
            f"neighbours at k {k} need more images than that of each identity, got {len(made)} reconstructions and "
            f"{len(real)} private ones: raise the attack's keep or lower k."
        )
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
