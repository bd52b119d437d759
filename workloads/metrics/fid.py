"""Frechet distance between all reconstructions and the private images of the identities attacked."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from workloads.context import JobContext
from workloads.core.errors import ShapeError
from workloads.metrics.base import METRICS, AttackMetric, ExtractorMetricConfig, ReconstructionEvidence
from workloads.metrics.intervals import Estimate


class FidConfig(ExtractorMetricConfig):
    kind: Literal["fid"] = "fid"
    resamples: PositiveInt = 100
    """Of identities, for the interval; each costs an eigendecomposition of the features' size."""


@METRICS.register(FidConfig)
class Fid(AttackMetric):
    """Frechet distance of the features of reconstructions and private images; the network is part of its name.

    Not comparable between networks, nor between sets of different size: with few images the distance is too large,
    and the interval, from resampling identities, lies above it for that reason as well. The usual FID is that of the
    extractor `inception_2015`.

    Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", NeurIPS 2017.
    """

    config: FidConfig

    def better(self) -> dict[str, str]:
        return {self._name: "higher"}

    @property
    def _name(self) -> str:
        return f"fid_{self.config.space}"

    def estimates(self, evidence: ReconstructionEvidence, *, context: JobContext) -> dict[str, Estimate]:
        attacked = evidence.identities.unique()
        made = [evidence.features[evidence.identities == own].double() for own in attacked]
        real = [evidence.private_features[evidence.private.identities == own].double() for own in attacked]
        value = frechet_distance(torch.cat(made), torch.cat(real))
        generator = context.generator("bootstrap", self._name)
        again = []
        for _ in range(self.config.resamples):
            drawn = torch.randint(len(attacked), (len(attacked),), generator=generator).tolist()
            sets = (torch.cat([own[index] for index in drawn]) for own in (made, real))
            again.append(frechet_distance(*sets))
        low, high = torch.tensor(again).double().quantile(torch.tensor([0.025, 0.975]).double()).tolist()
        method = f"bootstrap over identities, {self.config.resamples} resamples"
        return {self._name: Estimate(value, min(low, value), max(high, value), len(attacked), method)}


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Squared Frechet distance of the normal laws with the sets' means and covariances.

    Shape: (N, F), (M, F) float64.
    Raises:
        ShapeError: if a set has fewer than two rows.
    """
    if min(len(first), len(second)) < 2:
        raise ShapeError(f"a Frechet distance needs two rows in each set, got {len(first)} and {len(second)}.")
    apart = (first.mean(0) - second.mean(0)).square().sum()
    root = _root(torch.atleast_2d(first.T.cov()))
    joint = torch.linalg.eigvalsh(root @ torch.atleast_2d(second.T.cov()) @ root).clamp(min=0).sqrt().sum()
    spread = first.var(0).sum() + second.var(0).sum() - 2 * joint
    return max(float(apart + spread), 0.0)


def _root(covariance: Tensor) -> Tensor:
    """The symmetric square root. Shape: (F, F), kept."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
