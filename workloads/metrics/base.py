"""What a metric is: a number about a classifier, or one number for each reconstruction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from workloads.config import ComponentConfig
from workloads.errors import ShapeError
from workloads.metrics.intervals import Estimate, bootstrap_over_groups
from workloads.registry import Registry

Draws = Callable[[str], torch.Generator]


class MetricConfig(ComponentConfig):
    """Settings of one metric."""


@dataclass(frozen=True)
class HeldOutEvidence:
    """What a classifier said of held-out images. Shape: logits (N, C); identities (N,)."""

    logits: Tensor
    identities: Tensor


@dataclass(frozen=True)
class ReconstructionEvidence:
    """Reconstructions and private training images, and what the evaluation model says of both.

    Shape: logits (R, C) and features (R, F) of reconstructions; identities (R,), the ones aimed at;
    private_features (N, F); private_identities (N,); images (R, C, H, W) float in [0, 1]; private_images
    (N, C, H, W) uint8.
    """

    logits: Tensor
    features: Tensor
    identities: Tensor
    private_features: Tensor
    private_identities: Tensor
    images: Tensor
    private_images: Tensor

    @cached_property
    def nearest(self) -> tuple[Tensor, Tensor]:
        """Squared distance to, and index of, the private image of the identity whose features are nearest.

        Shape: (R,) float64, (R,) int64.
        """
        return nearest_private(self.features, self.identities, self.private_features, self.private_identities)

    def nearest_images(self) -> Tensor:
        """For each reconstruction the private image nearest in features. Shape: (R, C, H, W) in [0, 1]."""
        return self.private_images[self.nearest[1]].float() / 255


class Metric:
    """A measure, with the names of the numbers it gives."""

    better: ClassVar[dict[str, str]] = {}
    """For each number: 'higher' or 'lower', as whoever defends the model sees it."""

    def __init__(self, config: MetricConfig) -> None:
        self.config = config

    @classmethod
    def names(cls, classes: int) -> tuple[str, ...]:
        """Names of the numbers given for a model of so many classes."""
        return tuple(cls.better)


class ClassifierMetric(Metric, ABC):
    """Measures a classifier on held-out private images."""

    @abstractmethod
    def estimates(self, evidence: HeldOutEvidence) -> dict[str, Estimate]:
        """Each number with its interval."""


class JudgedMetric(Metric, ABC):
    """Measures the reconstructions of one attack."""

    @property
    def fewest_reconstructions(self) -> int:
        """How many of each identity it takes."""
        return 1

    @abstractmethod
    def estimates(self, evidence: ReconstructionEvidence, *, draws: Draws) -> dict[str, Estimate]:
        """Each number with its interval; `draws` gives the generator of a number's resampling."""


class ReconstructionMetric(JudgedMetric):
    """Gives each reconstruction a number; means and intervals over identities are taken in one place for all."""

    def estimates(self, evidence: ReconstructionEvidence, *, draws: Draws) -> dict[str, Estimate]:
        return {
            name: bootstrap_over_groups(values, evidence.identities, generator=draws(name))
            for name, values in self.rows(evidence).items()
        }

    @abstractmethod
    def rows(self, evidence: ReconstructionEvidence) -> dict[str, Tensor]:
        """One value a reconstruction. Shape: (R,) float for each name."""


def nearest_private(
    features: Tensor, identities: Tensor, private_features: Tensor, private_identities: Tensor
) -> tuple[Tensor, Tensor]:
    """Squared distance to the nearest private image of the same identity, and that image's index.

    Shape: features (R, F), identities (R,), private_features (N, F), private_identities (N,)
        to (R,) float64, (R,) int64.
    Raises:
        ShapeError: if an identity has no private image.
    """
    distances = torch.empty(len(features), dtype=torch.float64)
    indices = torch.empty(len(features), dtype=torch.int64)
    for identity in identities.unique().tolist():
        rows = (identities == identity).nonzero().flatten()
        own = (private_identities == identity).nonzero().flatten()
        if len(own) == 0:
            raise ShapeError(f"identity {identity} has no private image to measure a distance to.")
        squared = (features[rows].double()[:, None] - private_features[own].double()[None]).square().sum(2)
        distances[rows], nearest = squared.min(1)
        indices[rows] = own[nearest]
    return distances, indices


METRICS: Registry[Metric] = Registry("workloads.metrics")
