"""Anti-adversarial training: make the network easy to fool by tiny changes, which are what attacks climb along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from workloads.core.errors import ConfigError
from workloads.defenses.base import DEFENSES, Batch, Defense, DefenseConfig, Evidence
from workloads.models.base import Classifier


class AntiAdversarialConfig(DefenseConfig):
    """How images are changed in training, and how much it counts that the network is fooled."""

    kind: Literal["anti_adversarial"] = "anti_adversarial"
    weight: PositiveFloat = 0.08
    """Weight of the cross-entropy that calls changed images by their wrong class, beside that of whole images."""
    eps: Annotated[float, Field(gt=0, le=1)] = 2.5e-4
    """Largest change of a pixel of an image in [0, 1]. The authors' code has 5e-4 on images in [-1, 1], the same."""
    step: Annotated[float, Field(gt=0, le=1)] = 5e-5
    """Change of a pixel in one iteration, of an image in [0, 1]."""
    iterations: PositiveInt = 5
    """Steps towards the wrong class from a random start; each is one more pass of the network."""

    def check_combination(self, others: Sequence[DefenseConfig]) -> None:
        """Refuse defenses that look at the last pass of the network, which here is not that of the batch."""
        looking = [
            other.kind
            for other in others
            if DEFENSES.class_of(other).penalty is not Defense.penalty
            or DEFENSES.class_of(other).wrap_optimizer is not Defense.wrap_optimizer
        ]
        if looking:
            raise ConfigError(
                f"anti_adversarial runs the network several times a step, and {looking[0]} looks at its last pass: "
                "use one of the two."
            )


@DEFENSES.register(AntiAdversarialConfig)
class AntiAdversarial(Defense):
    """Train the network to take minimally changed images for a random wrong class.

    Loss: CE(x, y) + weight x CE(x + d, w), where w is a random class other than y, and d the change that projected
    gradient steps find towards w. Steps are taken in fp32, since half precision rounds such changes away.

    Source: Torp, Smith and Breuer, "Reducing information dependency does not cause training data privacy. Adversarially
    non-robust features do", ICLR 2026. Their code draws the class after y twice as often as others; here all are alike.
    """

    capturable: ClassVar = False  # a recorded step would draw the same start and classes again
    config: AntiAdversarialConfig
    _model: Classifier

    def start(self, model: Classifier) -> None:
        """Get hold of the network."""
        self._model = model

    def begin_epoch(self, epoch: int) -> None:
        """Draw classes and starts of an epoch from a generator named after it."""
        self._draws = self.facts.generator_on_device("anti_adversarial", epoch)
        self._fooled = torch.zeros((), device=self.facts.device)
        self._shown = 0

    def penalty(self, batch: Batch) -> Tensor:
        """The weighted cross-entropy that takes changed images for wrong classes."""
        wrong = self._wrong_classes(batch.targets.argmax(1))
        logits = self._model.classify(self._changed(batch.images, wrong))
        self._fooled += (logits.detach().argmax(1) == wrong).sum()
        self._shown += len(wrong)
        return self.config.weight * F.cross_entropy(logits, wrong)

    def evidence(self) -> Evidence:
        """How often the network was fooled in the last epoch."""
        return Evidence({"last_epoch_fooled_share": self._fooled.item() / max(self._shown, 1)}, {})

    def _wrong_classes(self, identities: Tensor) -> Tensor:
        """A class for each image, uniform over all but its own. Shape: (B,) int64, kept."""
        classes, device = self.facts.classes, identities.device
        ahead = torch.randint(1, classes, identities.shape, generator=self._draws, device=device)
        return (identities + ahead) % classes

    def _changed(self, images: Tensor, wrong: Tensor) -> Tensor:
        """Images moved towards wrong classes, within `eps` and the colours that images have.

        Shape: images (B, C, H, W), normalised; wrong (B,).
        """
        mean, std = self._model.mean, self._model.std
        darkest, brightest, eps, step = -mean / std, (1 - mean) / std, self.config.eps / std, self.config.step / std
        images = images.detach()
        noise = torch.rand(images.shape, generator=self._draws, device=images.device)
        changed = (images + eps * (2 * noise - 1)).clamp(darkest, brightest)
        for _ in range(self.config.iterations):
            changed.requires_grad_(True)
            loss = F.cross_entropy(self._model.classify(changed), wrong)
            (slope,) = torch.autograd.grad(loss, changed)
            changed = changed.detach() - step * slope.sign()
            changed = (images + (changed - images).clamp(-eps, eps)).clamp(darkest, brightest)
        return changed
