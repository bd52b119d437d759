"""Train one classifier on private data: a target model, defended or not, or the evaluation model."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from safetensors.torch import save_file

from workloads.config import ComponentConfig
from workloads.context import DataInput, JobContext
from workloads.datasets.base import SplitConfig, split
from workloads.defenses.base import DEFENSES, Defense, TrainingFacts
from workloads.jobs.base import JOBS, Job, JobConfig
from workloads.models.base import MODELS, initialize
from workloads.pictures import save_grid
from workloads.storage import save_network
from workloads.training import TrainingConfig, channel_mean, train


class TrainClassifierConfig(JobConfig):
    kind: Literal["train_classifier"] = "train_classifier"
    role: Literal["target", "evaluation"]
    """Part of the key, so that the judge never is the very network under attack."""
    data: DataInput
    split: SplitConfig
    model: Annotated[ComponentConfig, MODELS]
    training: TrainingConfig
    defenses: tuple[Annotated[ComponentConfig, DEFENSES], ...] = ()
    seed: int = 0


@JOBS.register(TrainClassifierConfig)
class TrainClassifier(Job):
    """Train a classifier on the training part of the private images.

    Source: the target and evaluation models of Zhang et al., CVPR 2020, section 4.
    """

    config: TrainClassifierConfig

    def run(self, context: JobContext) -> None:
        config = self.config
        data = context.load_images(config.data)
        private, _ = split(data.identities, config.split)
        data = data.subset(private)
        shape = (data.images.shape[1], data.images.shape[2], data.images.shape[3])
        runtime = {"classes": len(data.names), "channels": shape[0], "image_size": shape[1]}
        model = MODELS.build(config.model, **runtime)
        initialize(model, context.generator("initialization"))
        facts = TrainingFacts(len(data), shape, channel_mean(model, data.images), context.generator)
        defenses = [DEFENSES.build(defense, facts=facts) for defense in config.defenses]
        train(model.to(context.device), data, config.training, defenses=defenses, context=context)
        save_network(context.output, "model", model, config=config.model, runtime=runtime)
        context.write_json("identities.json", list(data.names))
        context.write_history()
        _save_evidence(defenses, context)


def _save_evidence(defenses: list[Defense], context: JobContext) -> None:
    """What each defense really did: facts as JSON, tensors as safetensors, maps as pictures."""
    facts, tensors = {}, {}
    for index, defense in enumerate(defenses):
        own, maps = defense.evidence()
        facts[f"{index}.{defense.config.kind}"] = own
        for name, tensor in maps.items():
            tensors[f"{index}.{defense.config.kind}.{name}"] = tensor.contiguous()
            if tensor.ndim == 2:
                grid = tensor.float()[None, None]
                save_grid(context.output / f"{index}.{defense.config.kind}.{name}.png", grid, columns=1, scale=4)
    context.write_json("defenses.json", facts)
    save_file({**tensors, "count": torch.tensor(len(defenses))}, context.output / "defenses.safetensors")
