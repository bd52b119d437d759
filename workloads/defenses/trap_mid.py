"""Trap-MID: teach the network an invisible trigger for each class, so that attacks find triggers instead of people."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from workloads.core.checkpoints import State
from workloads.core.config import Fraction
from workloads.defenses.base import DEFENSES, Batch, Defense, DefenseConfig, Evidence, TrainingFacts
from workloads.models.base import Classifier


class TrapMidConfig(DefenseConfig):
    """How visible the triggers are, and how strongly they are trained."""

    kind: Literal["trap_mid"] = "trap_mid"
    blend: Fraction = 0.02
    """Fraction of a triggered image that is the trigger; the rest is the image."""
    weight: Fraction = 0.2
    """Weight of the loss on triggered images; clean images have 1 minus this."""
    step: PositiveFloat = 0.01
    """How far each pixel of a trigger moves per batch; pixels lie in [0, 1]."""


@DEFENSES.register(TrapMidConfig)
class TrapMid(Defense):
    """Train class-wise triggers as shortcuts beside the network, unseen by a discriminator of its own architecture.

    In each batch, the discriminator learns to tell triggered images from clean ones, the triggers take one sign step
    towards their class and towards looking natural, and the triggered images join the batch with their class as target.
    Defenses behind it in the list, such as random erasing, then act on clean and triggered images alike. The random
    views that the authors draw at this point are those of `training.augmentation`, which come before.

    Source: Liu and Chen, "Trap-MID: Trapdoor-based Defense against Model Inversion Attacks", NeurIPS 2024.
    """

    couples_images: ClassVar = True
    config: TrapMidConfig

    def __init__(self, config: TrapMidConfig, *, facts: TrainingFacts) -> None:
        super().__init__(config, facts=facts)
        draws = facts.generator("trap_mid/triggers")
        self.triggers = torch.rand(facts.classes, *facts.image_shape, generator=draws).to(facts.device)

    def start(self, model: Classifier) -> None:
        """Build the discriminator of triggered images."""
        assert self.facts.build_network is not None and self.facts.build_optimizer is not None
        self._model = model
        self.discriminator = self.facts.build_network(1)
        self._optimizer = self.facts.build_optimizer(self.discriminator)

    def begin_epoch(self, epoch: int) -> None:
        """Assign a class to every image of the epoch, each class equally often."""
        classes = torch.arange(self.facts.images) % self.facts.classes
        order = torch.randperm(len(classes), generator=self.facts.generator("trap_mid/classes", epoch))
        self._assigned, self._next = classes[order].to(self.facts.device), 0

    def prepare(self, batch: Batch, *, generator: torch.Generator) -> Batch:
        """Train discriminator and triggers, and add triggered images with their trap labels."""
        classes = self._assigned[self._next : self._next + len(batch.images)]
        self._next += len(batch.images)
        self._train_discriminator(batch.images, self._triggered(batch.images, classes))
        self._move_triggers(batch.images, classes)
        wanted = F.one_hot(classes, self.facts.classes).to(batch.targets)
        return replace(
            batch,
            images=torch.cat((batch.images, self._triggered(batch.images, classes))),
            indices=batch.indices.repeat(2),
            targets=torch.cat((batch.targets, wanted)),
            weights=torch.cat((batch.weights * (1 - self.config.weight), batch.weights * self.config.weight)),
        )

    def _triggered(self, images: Tensor, classes: Tensor) -> Tensor:
        """Images blended with the triggers of these classes.

        Triggers are in [0, 1] and images are normalised here, so triggers are normalised before they are blended in.
        """
        return (1 - self.config.blend) * images + self.config.blend * self._model.normalize(self.triggers[classes])

    def _train_discriminator(self, clean: Tensor, triggered: Tensor) -> None:
        """One step towards giving 1 to clean images and 0 to triggered ones."""
        self.discriminator.train()
        verdicts = self.discriminator.classify(torch.cat((clean, triggered)))
        natural = torch.zeros_like(verdicts)
        natural[: len(clean)] = 1
        loss = F.binary_cross_entropy_with_logits(verdicts, natural)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()

    def _move_triggers(self, images: Tensor, classes: Tensor) -> None:
        """One sign step of the triggers of these classes; the two networks stay as they are."""
        self._model.eval()
        self.discriminator.eval()
        self.triggers.requires_grad_(True)
        triggered = self._triggered(images, classes)
        verdicts = self.discriminator.classify(triggered)
        loss = F.binary_cross_entropy_with_logits(verdicts, torch.ones_like(verdicts))
        loss = loss + F.cross_entropy(self._model.classify(triggered), classes)
        (gradient,) = torch.autograd.grad(loss, self.triggers)
        self.triggers = (self.triggers.detach() - self.config.step * gradient.sign()).clamp(0, 1)
        self._model.train()

    def state(self) -> State:
        """Triggers, discriminator and its optimiser."""
        slots = self._optimizer.state_dict()["state"]
        return {
            "triggers": self.triggers,
            "discriminator": self.discriminator.state_dict(),
            "optimizer": {str(index): slot for index, slot in slots.items()},
        }

    def restore(self, state: State) -> None:
        """Go on with the triggers, the discriminator and the optimiser that `state` returned."""
        self.triggers = state["triggers"].to(self.facts.device)
        self.discriminator.load_state_dict(state["discriminator"])
        slots = {int(index): slot for index, slot in state["optimizer"].items()}
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": slots})

    def evidence(self) -> Evidence:
        """The triggers."""
        return Evidence({"classes": self.facts.classes}, {"triggers": self.triggers.cpu()})
