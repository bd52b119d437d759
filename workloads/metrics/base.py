"""What a metric is: a number about a classifier, or one number for each reconstruction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, ClassVar

import torch
from pydantic import field_validator
from torch import Tensor

from workloads.context import JobContext
from workloads.core.config import ComponentConfig
from workloads.core.errors import ShapeError
from workloads.core.registry import Registry
from workloads.datasets.base import ImageSet
from workloads.metrics.intervals import Estimate, bootstrap_over_groups
from workloads.models.base import MODELS, Classifier, ModelConfig


class MetricConfig(ComponentConfig):
    """Settings of one metric."""

    @property
    def label(self) -> str:
        """What tells it apart from the other metrics of a spec."""
        return self.kind


class ExtractorMetricConfig(MetricConfig):
    """Settings of a metric in the features of a network, which is part of its numbers' names."""

    extractor: Annotated[ModelConfig, MODELS] | None = None
    """A network with weights of its own, such as an Inception with those for ImageNet; the evaluation model where
    omitted."""

    @field_validator("extractor")
    @classmethod
    def _has_weights(cls, extractor: ComponentConfig | None) -> ComponentConfig | None:
        if isinstance(extractor, ModelConfig) and extractor.weights == "none":
            raise ValueError(f"{extractor.label} without weights measures nothing: set weights to imagenet or a file")
        return extractor

    @property
    def space(self) -> str:
        """Whose features these are."""
        return self.extractor.label if isinstance(self.extractor, ModelConfig) else "evaluation"

    @property
    def label(self) -> str:
        return f"{self.kind}_{self.space}"


@dataclass(frozen=True)
class HeldOutEvidence:
    """What a classifier said of held-out images. Shape: logits (N, C); identities (N,)."""

    logits: Tensor
    identities: Tensor


@dataclass(frozen=True)
class ReconstructionEvidence:
    """Reconstructions and private images, and what a network makes of both.

    The logits are always the evaluation model's; the features are those of `network`, which a metric may choose.

    Shape: images (R, C, H, W) float in [0, 1]; identities (R,), the ones aimed at; logits (R, classes); features
    (R, F); private_features (N, F), of the N images of `private`; each of traits (classes,).
    """

    images: Tensor
    identities: Tensor
    logits: Tensor
    features: Tensor
    private: ImageSet
    """What target and evaluation model were trained on."""
    private_features: Tensor
    held_out: ImageSet
    """What neither was."""
    network: Classifier
    traits: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @cached_property
    def nearest(self) -> tuple[Tensor, Tensor]:
        """Squared distance to, and index of, the private image of the identity whose features are nearest.

        Shape: (R,) float64, (R,) int64.
        """
        return nearest_private(self.features, self.identities, self.private_features, self.private.identities)

    def nearest_images(self) -> Tensor:
        """For each reconstruction the private image nearest in features. Shape: (R, C, H, W) in [0, 1]."""
        return self.private.images[self.nearest[1]].float() / 255


class Metric(ABC):
    """A measure, with the names of the numbers it gives."""

    def __init__(self, config: MetricConfig) -> None:
        self.config = config

    @abstractmethod
    def better(self) -> dict[str, str]:
        """For each number: 'higher' or 'lower', as whoever defends the model sees it."""

    def names(self, classes: int) -> tuple[str, ...]:
        """Names of the numbers given for a model of so many classes."""
        return tuple(self.better())


class ClassifierMetric(Metric):
    """Measures a classifier on held-out private images."""

    @abstractmethod
    def estimates(self, evidence: HeldOutEvidence) -> dict[str, Estimate]:
        """Each number with its interval."""


class AttackMetric(Metric):
    """Measures the reconstructions of one attack."""

    needs_traits: ClassVar[bool] = False
    """Whether it compares with what the data set knows of each identity beside its name."""

    @property
    def fewest_reconstructions(self) -> int:
        """How many of each identity it takes."""
        return 1

    @property
    def fewest_private_images(self) -> int:
        """How many images of each attacked identity the target model must have been trained on."""
        return 1

    @property
    def fewest_identities(self) -> int:
        """How many identities have to be attacked."""
        return 1

    @property
    def feature_network(self) -> ModelConfig | None:
        """The network whose features this metric compares; None for the evaluation model."""
        return self.config.extractor if isinstance(self.config, ExtractorMetricConfig) else None

    @property
    def networks(self) -> tuple[ModelConfig, ...]:
        """Networks, beside the evaluation model, that this metric shows images to."""
        return () if self.feature_network is None else (self.feature_network,)

    @abstractmethod
    def estimates(self, evidence: ReconstructionEvidence, *, context: JobContext) -> dict[str, Estimate]:
        """Each number with its interval; `context` is that of the job that judges."""


class ReconstructionMetric(AttackMetric):
    """Gives each reconstruction a number; means and intervals over identities are taken in one place for all."""

    def estimates(self, evidence: ReconstructionEvidence, *, context: JobContext) -> dict[str, Estimate]:
        return over_identities(self.rows(evidence), evidence.identities, context)

    @abstractmethod
    def rows(self, evidence: ReconstructionEvidence) -> dict[str, Tensor]:
        """One value a reconstruction. Shape: (R,) float for each name."""


def over_identities(rows: Mapping[str, Tensor], identities: Tensor, context: JobContext) -> dict[str, Estimate]:
    """The mean of each column with its interval from resampling identities. Shape: (R,) each, identities (R,)."""
    return {
        name: bootstrap_over_groups(values, identities, generator=context.generator("bootstrap", name))
        for name, values in rows.items()
    }


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


def positions_by_content(images: Tensor, chosen: Tensor) -> Tensor:
    """Positions of the chosen images, sorted by their pixels: what is drawn for an image then is the same wherever it
    stands.

    Shape: images (N, C, H, W), chosen (N,) bool, to (M,) int64.
    """
    rows = chosen.nonzero().flatten().tolist()
    return torch.tensor(sorted(rows, key=lambda row: images[row].numpy().tobytes()), dtype=torch.int64)


METRICS: Registry[MetricConfig, Metric] = Registry("workloads.metrics")
