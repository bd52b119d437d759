"""Train one classifier: a target model, defended or not, the evaluation model, or one on public data to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import torch
from safetensors.torch import load_file, save_file

from workloads.context import DataInput, JobContext
from workloads.core.pictures import save_grid
from workloads.datasets.base import ImageSet, SplitConfig
from workloads.defenses.base import DEFENSES, Defense, DefenseConfig, TrainingFacts
from workloads.jobs.base import JOBS, Job, JobConfig
from workloads.models.base import MODELS, Classifier, ModelConfig
from workloads.recipes.optimization import TrainingConfig, build_optimizer
from workloads.training.classifiers import Architecture, fresh_classifier, save_classifier
from workloads.training.loop import split_off_validation, train
from workloads.training.prediction import channel_mean


class TrainClassifierConfig(JobConfig):
    """Which classifier to train, on what, and with which defenses."""

    kind: Literal["train_classifier"] = "train_classifier"
    role: Literal["target", "evaluation", "public"]
    """What the classifier is for. It is part of the key, so that the judge is never the network under attack."""
    data: DataInput
    """The images, private or public."""
    split: SplitConfig | None
    """How images are held out of training; None trains on all, as on public images."""
    model: Annotated[ModelConfig, MODELS]
    """Architecture."""
    training: TrainingConfig
    """How it is trained."""
    defenses: tuple[Annotated[DefenseConfig, DEFENSES], ...] = ()
    """Defenses that act during training, in this order."""
    seed: int = 0
    """Training seed; other seeds give other weights, batches and augmentations."""


@JOBS.register(TrainClassifierConfig)
class TrainClassifier(Job):
    """Train a classifier on the training part of the private images, or on public ones for others to start from.

    Source: the target and evaluation models of Zhang et al., CVPR 2020, section 4.
    """

    config: TrainClassifierConfig

    def run(self, context: JobContext) -> None:
        """Train, and write the classifier, its history and the evidence of its defenses."""
        config = self.config
        data = context.load_images(config.data)
        if config.split is not None:
            data, _ = data.split(config.split)
        data, validation = split_off_validation(data, config.training)
        channels, size = data.images.shape[1:3]
        architecture = Architecture(
            model=config.model,
            classes=len(data.names),
            channels=channels,
            image_size=size,
            defenses=config.defenses,
        )
        model = fresh_classifier(architecture, context, "initialization")
        model.start_from(config.model)
        model.to(context.device)
        facts = self._facts(model, data, architecture, context)
        defenses = [DEFENSES.build(defense, facts=facts) for defense in config.defenses]
        train(model, data, config.training, validation=validation, defenses=defenses, context=context)
        save_classifier(context.output, model, architecture)
        context.write_json("identities.json", list(data.names))
        context.write_history()
        _save_evidence(defenses, context)

    def _facts(
        self, model: Classifier, data: ImageSet, architecture: Architecture, context: JobContext
    ) -> TrainingFacts:
        def build_network(outputs: int) -> Classifier:
            plain = architecture.model_copy(update={"classes": outputs, "defenses": ()})
            return fresh_classifier(plain, context, f"network of {outputs}").to(context.device)

        return TrainingFacts(
            images=len(data),
            image_shape=(data.images.shape[1], model.image_size, model.image_size),
            channel_mean=channel_mean(model, data.images).to(context.device),
            generator=context.generator,
            classes=model.classes,
            epochs=self.config.training.epochs,
            batch_size=self.config.training.batch_size,
            device=context.device,
            build_network=build_network,
            build_optimizer=lambda network: build_optimizer(network, self.config.training),
            pretrained=_weights(context.inputs.get("public")),
        )


def _weights(folder: Path | None) -> dict[str, torch.Tensor] | None:
    """Weights of the classifier in an artifact; None if there is no artifact."""
    return None if folder is None else load_file(folder / "model.safetensors")


def _save_evidence(defenses: list[Defense], context: JobContext) -> None:
    """Save what each defense did: facts as JSON, tensors as safetensors, maps as pictures."""
    facts, tensors = {}, {}
    for index, defense in enumerate(defenses):
        facts[f"{index}.{defense.config.kind}"], maps = defense.evidence()
        for name, tensor in maps.items():
            tensors[f"{index}.{defense.config.kind}.{name}"] = tensor.contiguous()
            if tensor.ndim == 2:
                grid = tensor.float()[None, None]
                save_grid(context.output / f"{index}.{defense.config.kind}.{name}.png", grid, columns=1, scale=4)
    context.write_json("defenses.json", facts)
    save_file({**tensors, "count": torch.tensor(len(defenses))}, context.output / "defenses.safetensors")
