"""Frechet distance between all reconstructions and the private images of the attacked identities."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from workloads.context import JobContext
from workloads.core.errors import ShapeError
from workloads.metrics.base import METRICS, AttackMetric, ExtractorMetricConfig, ReconstructionEvidence
from workloads.metrics.intervals import Estimate


class FidConfig(ExtractorMetricConfig):
    """Which features `fid` compares, and how its interval is made."""

    version: ClassVar[int] = 2
    kind: Literal["fid"] = "fid"
    resamples: PositiveInt = 100
    """Resamples of identities for the interval; each costs the singular values of a matrix with at most as many rows
    and columns as there are images, or features if these are fewer."""


@METRICS.register(FidConfig)
class Fid(AttackMetric):
    """Frechet distance between the features of reconstructions and private images; the network is part of its name.

    Do not compare it between networks, or between sets of different size: with few images the distance is too large,
    and for the same reason the interval, from resampling identities, lies above it. The usual FID has
    `inception_2015` as extractor.

    Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", NeurIPS 2017.
    """

    config: FidConfig

    def better(self) -> dict[str, str]:
        """Farther from the private images is better."""
        return {self._name: "higher"}

    @property
    def _name(self) -> str:
        return f"fid_{self.config.space}"

    def estimates(self, evidence: ReconstructionEvidence, *, context: JobContext) -> dict[str, Estimate]:
        """The distance of all images, with an interval from resampled identities."""
        attacked = evidence.identities.unique()
        reconstructed = [evidence.features[evidence.identities == identity].double() for identity in attacked]
        private = [evidence.private_features[evidence.private.identities == identity].double() for identity in attacked]
        value = frechet_distance(torch.cat(reconstructed), torch.cat(private))
        generator = context.generator("bootstrap", self._name)
        resampled = []
        for _ in range(self.config.resamples):
            drawn = torch.randint(len(attacked), (len(attacked),), generator=generator).tolist()
            first, second = (torch.cat([groups[index] for index in drawn]) for groups in (reconstructed, private))
            resampled.append(frechet_distance(first, second))
        low, high = torch.tensor(resampled).double().quantile(torch.tensor([0.025, 0.975]).double()).tolist()
        method = f"bootstrap over identities, {self.config.resamples} resamples"
        return {self._name: Estimate(value, min(low, value), max(high, value), len(attacked), method)}


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Squared Frechet distance between the normal distributions with the means and covariances of two sets.

    Shape: (N, F), (M, F) float64.
    Raises:
        ShapeError: if a set has fewer than two rows.
    """
    if min(len(first), len(second)) < 2:
        raise ShapeError(f"a Frechet distance needs two rows in each set, got {len(first)} and {len(second)}.")
    between_means = (first.mean(0) - second.mean(0)).square().sum()
    # The root of the product of covariances A'A and B'B has as its trace the sum of the singular values of AB'.
    joint = torch.linalg.svdvals(_factor(first) @ _factor(second).T).sum()
    spread = first.var(0).sum() + second.var(0).sum() - 2 * joint
    return max(float(between_means + spread), 0.0)


def _factor(rows: Tensor) -> Tensor:
    """A matrix A with as few rows as it can have, such that A'A is the covariance. Shape: (N, F) to (min(N, F), F)."""
    centred = (rows - rows.mean(0)) / math.sqrt(len(rows) - 1)
    return centred if len(rows) <= rows.shape[1] else torch.linalg.qr(centred, mode="r").R
