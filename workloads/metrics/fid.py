"""Frechet distance between all reconstructions and the private images of the identities attacked."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from workloads.errors import ShapeError
from workloads.metrics.base import METRICS, Draws, JudgedMetric, MetricConfig, ReconstructionEvidence
from workloads.metrics.intervals import Estimate


class FidConfig(MetricConfig):
    kind: Literal["fid"] = "fid"
    resamples: PositiveInt = 100
    """Of identities, for the interval; each costs an eigendecomposition of the features' size."""


@METRICS.register(FidConfig)
class Fid(JudgedMetric):
    """Frechet distance of two sets of features, those of the evaluation model, which its name says.

    Not comparable with distances in Inception features, nor between sets of different size: with few images the
    distance is too large, and the interval, from resampling identities, lies above it for that reason as well.

    Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", NeurIPS 2017.
    """

    better: ClassVar = {"fid_evaluation": "higher"}
    config: FidConfig

    def estimates(self, evidence: ReconstructionEvidence, *, draws: Draws) -> dict[str, Estimate]:
        attacked = evidence.identities.unique()
        made = [evidence.features[evidence.identities == own].double() for own in attacked]
        real = [evidence.private_features[evidence.private_identities == own].double() for own in attacked]
        value = frechet_distance(torch.cat(made), torch.cat(real))
        generator = draws("fid_evaluation")
        again = []
        for _ in range(self.config.resamples):
            drawn = torch.randint(len(attacked), (len(attacked),), generator=generator).tolist()
            sets = (torch.cat([own[index] for index in drawn]) for own in (made, real))
            again.append(frechet_distance(*sets))
        low, high = torch.tensor(again).double().quantile(torch.tensor([0.025, 0.975]).double()).tolist()
        method = f"bootstrap over identities, {self.config.resamples} resamples"
        return {"fid_evaluation": Estimate(value, min(low, value), max(high, value), len(attacked), method)}


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
