"""How much a network learns about the private images from the reconstructions alone."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor

from workloads.context import JobContext
from workloads.core.errors import ShapeError
from workloads.datasets.base import ImageSet
from workloads.metrics.base import METRICS, AttackMetric, MetricConfig, ReconstructionEvidence, positions_by_content
from workloads.metrics.intervals import Estimate, over_images
from workloads.models.base import MODELS, Classifier, ModelConfig
from workloads.recipes.optimization import TrainingConfig
from workloads.training.classifiers import Architecture, fresh_classifier
from workloads.training.loop import split_off_validation, train
from workloads.training.prediction import predict


class KnowledgeExtractionConfig(MetricConfig):
    """The student network, and how it is trained on the reconstructions."""

    kind: Literal["knowledge_extraction"] = "knowledge_extraction"
    student: Annotated[ModelConfig, MODELS] | None = None
    """The network that is trained; one like the evaluation model if omitted."""
    training: TrainingConfig = TrainingConfig(
        epochs=75, batch_size=32, optimizer="sgd", lr=0.1, weight_decay=1e-4, schedule="cosine"
    )
    """How it is trained."""


@METRICS.register(KnowledgeExtractionConfig)
class KnowledgeExtraction(AttackMetric):
    """Accuracy, on private images, of a student trained on the reconstructions and the identities they aim at.

    It is measured on the private training images and on held-out ones, both of the attacked identities only; guessing
    reaches one over their number. Patterns that only target and evaluation model take for a person teach the student
    nothing. One student is trained, and no interval holds what another would learn. The published student is a
    ResNet-50 from ImageNet weights; the default schedule is the published one, except the final learning rate, which
    is 0 here and 1e-4 there.

    Source: Struppek et al., "Be Careful What You Smooth For", ICLR 2024, knowledge extraction score; the code of
    Struppek et al., "Plug & Play Attacks", ICML 2022.
    """

    config: KnowledgeExtractionConfig

    def better(self) -> dict[str, str]:
        """A student that learns less is better."""
        return {"knowledge_extraction_train_accuracy": "lower", "knowledge_extraction_test_accuracy": "lower"}

    @property
    def fewest_reconstructions(self) -> int:
        """Two if some are held back for validation."""
        return 2 if self.config.training.validation_fraction else 1

    @property
    def fewest_identities(self) -> int:
        """Two, since there must be something to tell apart."""
        return 2

    @property
    def networks(self) -> tuple[ModelConfig, ...]:
        """The student, if the spec names one."""
        return (self.config.student,) if self.config.student is not None else ()

    def estimates(self, evidence: ReconstructionEvidence, *, context: JobContext) -> dict[str, Estimate]:
        """Train a student on the reconstructions, and measure it on private images."""
        attacked = evidence.identities.unique()
        if len(attacked) < 2:
            raise ShapeError("knowledge_extraction needs two identities to tell apart, got 1: attack more of them.")
        kind = self.config.kind
        saved = (context.resume() or {}).get(kind)
        nested = context.nested(kind, saved=saved, wrap=lambda state: {kind: state})
        training_set, validation = split_off_validation(_reconstructions(evidence), self.config.training)
        student = self._student(evidence, len(attacked), nested)
        train(student, training_set, self.config.training, validation=validation, defenses=(), context=nested)
        test_sets = zip(self.better(), (evidence.private, evidence.held_out), strict=True)
        return {name: _accuracy(student, data, attacked) for name, data in test_sets}

    def _student(self, evidence: ReconstructionEvidence, classes: int, context: JobContext) -> Classifier:
        config = self.config.student or evidence.network.config
        channels, size = evidence.images.shape[1:3]
        architecture = Architecture(model=config, classes=classes, channels=channels, image_size=size)
        student = fresh_classifier(architecture, context, "initialization")
        student.start_from(config)
        return student.to(context.device)


def _reconstructions(evidence: ReconstructionEvidence) -> ImageSet:
    """Reconstructions in an order by content; identities are numbered from 0 among those attacked."""
    images = evidence.images.mul(255).round().to(torch.uint8)
    attacked, numbers = evidence.identities.unique(return_inverse=True)
    order = torch.cat([positions_by_content(images, numbers == number) for number in range(len(attacked))])
    return ImageSet(
        images[order], numbers[order], tuple(evidence.private.names[identity] for identity in attacked.tolist())
    )


def _accuracy(student: Classifier, data: ImageSet, attacked: Tensor) -> Estimate:
    """Accuracy of the student on the images of attacked identities."""
    subset = data.subset(torch.isin(data.identities, attacked).nonzero().flatten())
    numbers = predict(student.eval(), subset.images, device=student.mean.device).argmax(1)
    return over_images((attacked[numbers] == subset.identities).double(), subset.identities)
