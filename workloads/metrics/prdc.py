"""Precision, recall, density and coverage of the reconstructions of each identity."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

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
from workloads.metrics.intervals import Estimate, Scale


class Neighbourhoods(NamedTuple):
    """How the reconstructions of one identity lie among its private images."""

    precision: float
    recall: float
    density: float
    coverage: float


class PrdcConfig(ExtractorMetricConfig):
    """Which neighbours and features `prdc` uses."""

    version: ClassVar[int] = 2
    kind: Literal["prdc"] = "prdc"
    k: PositiveInt = 3
    """A point's radius is the distance to its k-th nearest neighbour."""


@METRICS.register(PrdcConfig)
class Prdc(AttackMetric):
    """How much of a person's images the reconstructions resemble (precision, density) and span (recall, coverage).

    Computed for each attacked identity, in features of the network in the names, then averaged. All four are as their
    authors define them. The code published with attacks differs: it counts an image for precision and recall only if
    it lies within the radius of the one nearest to it, rather than of any, which gives lower numbers, and divides
    density by the number of private images, not of reconstructions.

    Source: precision and recall Kynkaanniemi et al., "Improved Precision and Recall Metric for Assessing Generative
    Models", NeurIPS 2019, section 2; density and coverage Naeem et al., "Reliable Fidelity and Diversity Metrics for
    Generative Models", ICML 2020; for model inversion Struppek et al., "Plug & Play Attacks", ICML 2022.
    """

    config: PrdcConfig

    def better(self) -> dict[str, str]:
        """Reconstructions less like the private images are better."""
        return {f"{name}_{self.config.space}": "lower" for name in Neighbourhoods._fields}

    def scale(self, name: str) -> Scale:
        """All but density are shares."""
        return "positive" if name.startswith("density") else "fraction"

    @property
    def fewest_reconstructions(self) -> int:
        """More than the k neighbours that are looked at."""
        return self.config.k + 1

    @property
    def fewest_private_images(self) -> int:
        """More than the k neighbours that are looked at."""
        return self.config.k + 1

    def estimates(self, evidence: ReconstructionEvidence, *, context: JobContext) -> dict[str, Estimate]:
        """The mean over identities of all four numbers."""
        attacked = evidence.identities.unique()
        rows = []
        for identity in attacked:
            reconstructed = evidence.features[evidence.identities == identity].double()
            private = evidence.private_features[evidence.private.identities == identity].double()
            rows.append(prdc(private, reconstructed, k=self.config.k))
        columns = torch.tensor(rows, dtype=torch.float64).T
        return over_identities(dict(zip(self.better(), columns, strict=True)), attacked, self)


def prdc(private: Tensor, reconstructed: Tensor, *, k: int) -> Neighbourhoods:
    """Compute precision, recall, density and coverage of one identity's reconstructions from their features.

    Shape: private (N, F), reconstructed (M, F).
    Raises:
        ShapeError: if either has k rows or fewer.
    """
    if min(len(reconstructed), len(private)) <= k:
        raise ShapeError(
            f"k {k} needs at least {k + 1} images of each identity, got {len(reconstructed)} "
            f"reconstructions and {len(private)} private ones: raise the attack's keep or lower k."
        )
    distances = torch.cdist(private, reconstructed, compute_mode="donot_use_mm_for_euclid_dist")
    private_radii, reconstructed_radii = (_radii(points, k) for points in (private, reconstructed))
    inside = distances <= private_radii[:, None]
    inside_reconstructed = distances <= reconstructed_radii[None]
    return Neighbourhoods(
        precision=inside.any(0).double().mean().item(),
        recall=inside_reconstructed.any(1).double().mean().item(),
        density=inside.double().sum().item() / (k * len(reconstructed)),
        coverage=inside.any(1).double().mean().item(),
    )


def _radii(points: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th nearest neighbour. Shape: (N, F) to (N,)."""
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.kthvalue(k + 1, dim=1).values  # the nearest is the point itself
