"""What a metric is, and what it is computed from: answers on held-out images, or reconstructions of an attack."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, ClassVar

import torch
from pydantic import field_validator
from torch import Tensor

from workloads.context import JobContext
from workloads.core.config import ComponentConfig
from workloads.core.errors import ConfigError, ShapeError
from workloads.core.registry import Registry
from workloads.datasets.base import ImageSet
from workloads.inversion.attack import AttackConfig
from workloads.inversion.identity_choice import chosen, count_of
from workloads.metrics.intervals import Estimate, Scale, over_groups, over_images
from workloads.models.base import MODELS, Classifier, ModelConfig


class MetricConfig(ComponentConfig):
    """Settings of one metric."""

    @property
    def label(self) -> str:
        """Name that distinguishes this metric from the others of a spec."""
        return self.kind

    @property
    def feature_network(self) -> ModelConfig | None:
        """The network whose features the metric compares; None for the evaluation model."""
        return None


class ExtractorMetricConfig(MetricConfig):
    """Settings of a metric in the features of a network, whose name is part of the names of its numbers."""

    extractor: Annotated[ModelConfig, MODELS] | None = None
    """Network whose features are compared, for example an Inception with ImageNet weights; the evaluation model if
    omitted."""

    @field_validator("extractor")
    @classmethod
    def _has_weights(cls, extractor: ModelConfig | None) -> ModelConfig | None:
        if extractor is not None and extractor.weights == "none":
            raise ValueError(f"{extractor.label} without weights measures nothing: set weights to imagenet or a file")
        return extractor

    @property
    def space(self) -> str:
        """Name of the network whose features are compared."""
        return self.extractor.label if self.extractor is not None else "evaluation"

    @property
    def label(self) -> str:
        """The kind and the space that features are taken in."""
        return f"{self.kind}_{self.space}"

    @property
    def feature_network(self) -> ModelConfig | None:
        """The extractor that the spec names."""
        return self.extractor


@dataclass(frozen=True)
class HeldOutEvidence:
    """A classifier's answers on held-out images. Shape: logits (N, classes); identities (N,)."""

    logits: Tensor
    identities: Tensor
    images: Tensor
    """Shape: (N, C, H, W) uint8."""
    network: Classifier | None
    """The classifier; None for a black box."""


@dataclass(frozen=True)
class Tried:
    """All that several attacks kept, of which an attacker picked some. Shape: logits (T, classes); identities (T,)."""

    logits: Tensor
    """The evaluation model's."""
    identities: Tensor


@dataclass(frozen=True)
class ReconstructionEvidence:
    """Reconstructions and private images, with logits and features of both.

    Logits are always the evaluation model's; features are those of `network`, which a metric can choose.

    Shape: images (R, C, H, W) float in [0, 1]; identities (R,), those aimed at; logits (R, classes); features (R, F);
    private_features (N, F), of the N images of `private`; each of traits (classes,).
    """

    images: Tensor
    identities: Tensor
    logits: Tensor
    features: Tensor
    private: ImageSet
    """The images that target and evaluation model were trained on."""
    private_features: Tensor
    held_out: ImageSet
    """Private images that neither was trained on."""
    network: Classifier
    """The network that gave the features."""
    traits: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """What the data set knows of each identity beside its name, by trait."""
    tried: Tried | None = None
    """What the reconstructions were picked from; None for those of one attack."""

    @cached_property
    def nearest(self) -> tuple[Tensor, Tensor]:
        """Squared distance to, and index of, the private image of the same identity that is nearest in features.

        Shape: (R,) float64, (R,) int64.
        """
        return nearest_private(self.features, self.identities, self.private_features, self.private.identities)

    @cached_property
    def between_private_images(self) -> float:
        """Mean squared distance in features between two private images drawn at random, of whichever person.

        It is twice the total variance of the features.

        Raises:
            ShapeError: if all private images have the same features, which then tell nothing apart.
        """
        total_variance = float(self.private_features.double().var(0, correction=0).sum())
        if total_variance == 0:
            raise ShapeError(
                "all private images have the same features: the evaluation model tells nobody apart, train it longer."
            )
        return 2 * total_variance

    def nearest_images(self) -> Tensor:
        """The private image of the same identity nearest to each reconstruction. Shape: (R, C, H, W) in [0, 1]."""
        return self.private.images[self.nearest[1]].float() / 255


class Metric(ABC):
    """A measure, and the names of its numbers."""

    def __init__(self, config: MetricConfig) -> None:
        self.config = config

    @abstractmethod
    def better(self) -> dict[str, str]:
        """Name each number, with 'higher' or 'lower' for the direction that is better for the defender."""

    def names(self, classes: int) -> tuple[str, ...]:
        """Names of the numbers this metric gives for a model of `classes` classes."""
        return tuple(self.better())

    def scale(self, name: str) -> Scale:
        """Which values a number is the mean of, which its interval depends on; distances, from 0 on, if not said."""
        return "positive"


class ClassifierMetric(Metric):
    """Gives each held-out private image 0 or 1; its numbers are the shares of ones."""

    needs_gradients: ClassVar[bool] = False
    """Whether it follows gradients of the classifier, which a black box does not have."""
    fewest_classes: ClassVar[int] = 1
    """Fewest identities that the classifier has to tell apart."""

    def problems_with(self, *, is_black_box: bool, classes: int) -> Iterator[str]:
        """Why a classifier cannot be measured, one message each."""
        if self.needs_gradients and is_black_box:
            yield "follows gradients of the target model, and a black box has none: leave the metric out."
        if classes < self.fewest_classes:
            yield f"needs {self.fewest_classes} identities or more, the private data have {classes}: leave it out."

    def estimates(self, evidence: HeldOutEvidence) -> dict[str, Estimate]:
        """Share of ones in each column of `rows`, with intervals over images and over people."""
        return {name: over_images(values, evidence.identities) for name, values in self.rows(evidence).items()}

    @abstractmethod
    def rows(self, evidence: HeldOutEvidence) -> dict[str, Tensor]:
        """Compute 0.0 or 1.0 for each image. Shape: (N,) float for each name."""


class AttackMetric(Metric):
    """Measures the reconstructions of one attack."""

    needs_traits: ClassVar[bool] = False
    """Whether it needs the traits of each identity, which only some data sets have."""

    @property
    def fewest_reconstructions(self) -> int:
        """Fewest reconstructions per identity this metric needs."""
        return 1

    @property
    def fewest_private_images(self) -> int:
        """Fewest training images of the target model per attacked identity this metric needs."""
        return 1

    @property
    def fewest_identities(self) -> int:
        """Fewest attacked identities this metric needs."""
        return 1

    def names_for(self, attack: AttackConfig, classes: int) -> tuple[str, ...]:
        """Names of the numbers it gives for an attack on a model of `classes` classes."""
        return self.names(classes)

    def problems_with(self, attack: AttackConfig, *, training_images: Mapping[str, int]) -> Iterator[str]:
        """What an attack, or the data, gives too little of for this metric, one message each.

        Args:
            training_images: number of images of each identity that the target model is trained on; empty if unknown.
        """
        needed = self.fewest_reconstructions
        if attack.keep < needed:
            rule = f"needs {needed} reconstructions of each identity, but {attack.label} keeps {attack.keep}"
            yield f"{rule}: raise its keep."
        needed = self.fewest_identities
        count = count_of(attack.identities, len(training_images))
        if attack.identities is not None and count < needed:
            rule = f"needs {needed} identities to tell apart, but {attack.label} attacks {count}"
            yield f"{rule}: attack more."
        needed = self.fewest_private_images
        attacked = _attacked(attack, list(training_images))
        fewest = min(attacked, key=lambda name: training_images[name], default=None)
        if fewest is not None and training_images[fewest] < needed:
            rule = f"needs {needed} training images of each identity, but {fewest!r} has {training_images[fewest]}"
            yield f"{rule}: lower its k, or leave out identities with few."

    @property
    def networks(self) -> tuple[ModelConfig, ...]:
        """Networks, beside the evaluation model, that this metric shows images to."""
        network = self.config.feature_network
        return () if network is None else (network,)

    @abstractmethod
    def estimates(self, evidence: ReconstructionEvidence, *, context: JobContext) -> dict[str, Estimate]:
        """Compute each number, by name, with its interval; `context` is that of the job that evaluates the attack."""


class ReconstructionMetric(AttackMetric):
    """Gives each reconstruction a value; its numbers are means of these, with intervals for a population of people."""

    def estimates(self, evidence: ReconstructionEvidence, *, context: JobContext) -> dict[str, Estimate]:
        """Mean of each column of `rows`, with its interval."""
        return over_identities(self.rows(evidence), evidence.identities, self)

    @abstractmethod
    def rows(self, evidence: ReconstructionEvidence) -> dict[str, Tensor]:
        """Compute one value per reconstruction. Shape: (R,) float for each name."""


def _attacked(attack: AttackConfig, names: Sequence[str]) -> list[str]:
    """Who is attacked, of all with these names; nobody where the attack itself is refused, which is said there."""
    try:
        return [names[index] for index in chosen(attack.identities, names)]
    except ConfigError:
        return []


def over_identities(rows: Mapping[str, Tensor], identities: Tensor, metric: Metric) -> dict[str, Estimate]:
    """Mean of each column with its interval, identities being the independent units. Shape: (N,) each, and (N,)."""
    return {name: over_groups(values, identities, scale=metric.scale(name)) for name, values in rows.items()}


def nearest_private(
    features: Tensor, identities: Tensor, private_features: Tensor, private_identities: Tensor
) -> tuple[Tensor, Tensor]:
    """Find the nearest private image of the same identity. Returns its squared distance and its index.

    Shape: features (R, F), identities (R,), private_features (N, F), private_identities (N,)
        to (R,) float64, (R,) int64.
    Raises:
        ShapeError: if an identity has no private image.
    """
    distances = torch.empty(len(features), dtype=torch.float64)
    indices = torch.empty(len(features), dtype=torch.int64)
    for identity in identities.unique().tolist():
        rows = (identities == identity).nonzero().flatten()
        candidates = (private_identities == identity).nonzero().flatten()
        if len(candidates) == 0:
            raise ShapeError(f"identity {identity} has no private image to measure a distance to.")
        squared = (features[rows].double()[:, None] - private_features[candidates].double()[None]).square().sum(2)
        distances[rows], nearest = squared.min(1)
        indices[rows] = candidates[nearest]
    return distances, indices


def positions_by_content(images: Tensor, selected: Tensor) -> Tensor:
    """Positions of the selected images, sorted by pixels, so that random draws for them do not depend on their order.

    Shape: images (N, C, H, W), selected (N,) bool, to (M,) int64.
    """
    rows = selected.nonzero().flatten().tolist()
    return torch.tensor(sorted(rows, key=lambda row: images[row].numpy().tobytes()), dtype=torch.int64)


METRICS: Registry[MetricConfig, Metric] = Registry("workloads.metrics")
