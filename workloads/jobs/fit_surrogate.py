"""Train a network to answer as the target model does, from the target's answers alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.nn import functional as F

from workloads.context import DataInput, JobContext
from workloads.core.config import Addition
from workloads.core.networks import load_network
from workloads.datasets.base import ImageSet
from workloads.defenses.base import Batch, Defense, DefenseConfig, TrainingFacts
from workloads.defenses.random_erasing import RandomErasingConfig
from workloads.jobs.base import JOBS, Job, JobConfig
from workloads.jobs.target import images_sent, load_target
from workloads.jobs.teacher import teacher
from workloads.models.base import MODELS, ModelConfig
from workloads.observation.oracles import LabelOracle, ScoreOracle
from workloads.priors.base import PRIORS
from workloads.recipes.optimization import TrainingConfig
from workloads.training.classifiers import Architecture, fresh_classifier, save_classifier
from workloads.training.loop import train

QUERY_BATCH = 256


class FitSurrogateConfig(JobConfig):
    """Which surrogate to train, and on which answers."""

    kind: Literal["fit_surrogate"] = "fit_surrogate"
    answers: Literal["scores", "labels"]
    """What the target model is asked for: its probabilities, or the class it names."""
    data: DataInput
    """Public images, on which the target model answers unless a prior generates images."""
    generated_per_class: PositiveInt | None = None
    """Ask instead about this many images of each class from the prior among the inputs."""
    model: Annotated[ModelConfig, MODELS]
    """Architecture of the surrogate."""
    training: TrainingConfig
    """How the surrogate is trained."""
    number: int = 0
    """Position among the surrogates of an attack, which tells those of one architecture apart."""
    erasing: Annotated[RandomErasingConfig | None, Addition()] = None
    """If set, the target model answers on images erased like this, as for an attacker who knows its defense."""
    seed: Annotated[int, Addition()] = 0
    """Other seeds give other weights and batches."""


@JOBS.register(FitSurrogateConfig)
class FitSurrogate(Job):
    """Ask the target model once about every image, and train a network on the answers.

    Probabilities are learned by cross-entropy, which differs from the divergence by a constant. An image that training
    augments keeps the answer to the original image, so queries do not grow with epochs.

    Source: the augmented models of Nguyen et al., "Re-thinking Model Inversion Attacks", CVPR 2023, section 4.2; the
    surrogates of Nguyen et al., "Label-Only Model Inversion Attacks via Knowledge Transfer", NeurIPS 2023.
    """

    inputs = ("target", "prior")
    config: FitSurrogateConfig

    def run(self, context: JobContext) -> None:
        """Ask the target model, train the network, and write it with the number of queries."""
        target_model = load_target(context.inputs["target"], context, limits=self.config.limits)
        images = self._images(target_model.classes, context)
        access = ScoreOracle if self.config.answers == "scores" else LabelOracle
        target = teacher(access, target_model, erasing=self.config.erasing, public=images, context=context)
        batches = (batch.to(context.device).float().div(255) for batch in images.split(QUERY_BATCH))
        answers = torch.cat([_answers(target, batch, target_model.classes).cpu() for batch in batches])
        self._train(ImageSet(images, answers.argmax(1), ()), answers, context)
        context.write_json(
            "protocol.json", {"queries": target.queries, "images": len(images)} | images_sent(target_model)
        )
        context.write_history()

    def _images(self, classes: int, context: JobContext) -> Tensor:
        """The images that the target model is asked about. Shape: (N, C, H, W) uint8."""
        if self.config.generated_per_class is None:
            return context.load_images(self.config.data).images
        prior = load_network(context.inputs["prior"], "prior", PRIORS, device=context.device)
        identities = torch.arange(classes).repeat_interleave(self.config.generated_per_class)
        latents = torch.randn(len(identities), prior.latent_size, generator=context.generator("images"))
        with torch.no_grad():
            batches = [
                prior.synthesize(batch.to(context.device), classes_of_batch.to(context.device)).clamp(0, 1).cpu()
                for batch, classes_of_batch in zip(
                    latents.split(QUERY_BATCH), identities.split(QUERY_BATCH), strict=True
                )
            ]
        return torch.cat(batches).mul(255).round().to(torch.uint8)

    def _train(self, data: ImageSet, answers: Tensor, context: JobContext) -> None:
        channels, size = data.images.shape[1:3]
        architecture = Architecture(
            model=self.config.model, classes=answers.shape[1], channels=channels, image_size=size
        )
        model = fresh_classifier(architecture, context, "initialization")
        model.start_from(self.config.model)
        model.to(context.device)
        train(model, data, self.config.training, defenses=[_Answers(answers.to(context.device))], context=context)
        save_classifier(context.output, model, architecture)


def _answers(oracle: LabelOracle, images: Tensor, classes: int) -> Tensor:
    """Probabilities if the oracle gives them, else 1 for the label. Shape: (B, C, H, W) to (B, classes)."""
    if isinstance(oracle, ScoreOracle):
        return oracle.probabilities(images)
    return F.one_hot(oracle.labels(images), classes).float()


class _Answers(Defense):
    """Replaces labels by the target model's answers."""

    def __init__(self, answers: Tensor) -> None:
        facts = TrainingFacts(1, (1, 1, 1), torch.zeros(1), lambda *purpose: torch.Generator())
        super().__init__(DefenseConfig(kind="answers"), facts=facts)
        self._answers = answers

    def prepare(self, batch: Batch, *, generator: torch.Generator) -> Batch:
        return replace(batch, targets=self._answers[batch.indices].to(batch.images.dtype))
