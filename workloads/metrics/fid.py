"""Frechet distance between all reconstructions and the private images of the attacked identities."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import PositiveInt
from torch import Tensor

from workloads.context import JobContext
from workloads.core.errors import ShapeError
from workloads.metrics.base import METRICS, AttackMetric, ExtractorMetricConfig, ReconstructionEvidence
from workloads.metrics.intervals import Estimate


class FidConfig(ExtractorMetricConfig):
    """Which features `fid` compares, and how its interval is made."""

    version: ClassVar[int] = 3
    kind: Literal["fid"] = "fid"
    resamples: PositiveInt = 100
    """Resamples of identities for the interval; each costs the singular values of a matrix with at most as many rows
    and columns as two thirds of the images, or features if these are fewer."""


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
        sets = [
            _people(evidence.features, evidence.identities, attacked),
            _people(evidence.private_features, evidence.private.identities, attacked),
        ]
        value = frechet_distance(*(rows for rows, _ in sets))
        generator = context.generator("bootstrap", self._name)
        resampled = []
        for _ in range(self.config.resamples):
            drawn = torch.randint(len(attacked), (len(attacked),), generator=generator)
            times = drawn.bincount(minlength=len(attacked))
            resampled.append(_distance(*(_normal(rows, times[people]) for rows, people in sets)))
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
    return _distance(*(_normal(rows, torch.ones(len(rows), dtype=torch.int64)) for rows in (first, second)))


def _people(features: Tensor, identities: Tensor, attacked: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of attacked identities, and which of these each is of. Shape: to (M, F) float64, (M,) int64."""
    rows, people = (identities[:, None] == attacked).nonzero(as_tuple=True)
    return features[rows].double(), people


class _Normal(NamedTuple):
    """The normal distribution with the mean and covariance of a set."""

    mean: Tensor
    variance: Tensor
    """Sum over all dimensions. Shape: ()."""
    factor: Tensor
    """A matrix A with as few rows as it can have, such that A'A is the covariance."""


def _normal(rows: Tensor, times: Tensor) -> _Normal:
    """The distribution of a set in which each row occurs so many times: one longer row stands for equal ones.

    Shape: (N, F) float64, (N,) int64.
    """
    rows, times = rows[times > 0], times[times > 0].double()
    mean = times @ rows / times.sum()
    centred = (rows - mean) * (times / (times.sum() - 1)).sqrt()[:, None]
    factor = centred if len(rows) <= rows.shape[1] else torch.linalg.qr(centred, mode="r").R
    return _Normal(mean, centred.square().sum(), factor)


def _distance(first: _Normal, second: _Normal) -> float:
    between_means = (first.mean - second.mean).square().sum()
    # The root of the product of covariances A'A and B'B has as its trace the sum of the singular values of AB'.
    joint = torch.linalg.svdvals(first.factor @ second.factor.T).sum()
    return max(float(between_means + first.variance + second.variance - 2 * joint), 0.0)
