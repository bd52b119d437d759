"""What a metric is: a number about a classifier, or one number for each reconstruction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from workloads.config import ComponentConfig
from workloads.metrics.intervals import Estimate
from workloads.registry import Registry


class MetricConfig(ComponentConfig):
    """Settings of one metric."""


@dataclass(frozen=True)
class HeldOutEvidence:
    """What a classifier said of held-out images. Shape: logits (N, C); identities (N,)."""

    logits: Tensor
    identities: Tensor


@dataclass(frozen=True)
class ReconstructionEvidence:
    """What the evaluation model says of reconstructions, and of the private training images.

    Shape: logits (R, C) and features (R, F) of reconstructions; identities (R,), the ones aimed at;
    private_features (N, F); private_identities (N,).
    """

    logits: Tensor
    features: Tensor
    identities: Tensor
    private_features: Tensor
    private_identities: Tensor


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


class ReconstructionMetric(Metric, ABC):
    """Gives each reconstruction a number; means and intervals over identities are taken in one place for all."""

    @abstractmethod
    def rows(self, evidence: ReconstructionEvidence) -> dict[str, Tensor]:
        """One value a reconstruction. Shape: (R,) float for each name."""


METRICS: Registry[Metric] = Registry("workloads.metrics")
