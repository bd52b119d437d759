"""What an attacker may ask of a target model, as types: labels, scores, or the whole model. Queries are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from workloads.core.numerics import at_least_fp32

Answer = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) in [0, 1] to logits (B, classes)."""


class OpenClassifier(Protocol):
    """A classifier whose parts can be used one by one, such as `workloads.models.base.Classifier`."""

    @property
    def head(self) -> nn.Module:
        """The last layer: penultimate features (B, F) to logits (B, classes)."""

    @property
    def mean(self) -> Tensor:
        """Mean that the input is normalised by. Shape: (C, 1, 1)."""

    @property
    def std(self) -> Tensor:
        """Standard deviation that the input is normalised by. Shape: (C, 1, 1)."""

    def normalize(self, images: Tensor) -> Tensor:
        """Images in [0, 1] as the network reads them. Shape: (B, C, H, W), resized if the network asks for it."""

    def features(self, normalized: Tensor) -> Tensor:
        """Penultimate features of normalised images. Shape: (B, C, H, W) to (B, F)."""

    def modules(self) -> Iterator[nn.Module]:
        """All layers."""


class LabelOracle:
    """The attacker learns which class the target model names, and nothing else."""

    access: ClassVar[str] = "labels only"

    def __init__(self, logits: Answer) -> None:
        self.queries = 0
        self._logits = logits

    def labels(self, images: Tensor) -> Tensor:
        """The classes that the target model names. Shape: (B, C, H, W) in [0, 1] to (B,) int64."""
        return self._answer(images).argmax(1)

    @torch.no_grad()
    def _answer(self, images: Tensor) -> Tensor:
        logits = self._logits(images.detach())
        self.queries += len(images)  # once there is an answer: a batch too large for memory is asked about again
        return logits

    def score(self, images: Tensor, identities: Tensor) -> Tensor:
        """How much each image looks like its identity, as far as this oracle tells: 1 if it is named, else 0.

        Shape: (B, C, H, W), (B,) to (B,).
        """
        return self.confidence(images, identities)

    def confidence(self, images: Tensor, identities: Tensor) -> Tensor:
        """How sure the target model is of the identity, in [0, 1]. Shape: (B, C, H, W), (B,) to (B,)."""
        return (self.labels(images) == identities).to(images.dtype)


class ScoreOracle(LabelOracle):
    """The attacker learns the probability that the target model gives each class."""

    access = "scores"

    def probabilities(self, images: Tensor) -> Tensor:
        """Probabilities of all classes, without gradients. Shape: (B, C, H, W) in [0, 1] to (B, classes)."""
        return at_least_fp32(self._answer(images)).softmax(1)

    def confidence(self, images: Tensor, identities: Tensor) -> Tensor:
        """The probability of the identity."""
        return self.probabilities(images).gather(1, identities[:, None]).flatten()


class WhiteBoxOracle(ScoreOracle):
    """The attacker holds the target model itself, frozen and in eval mode: scores, features and gradients."""

    access = "white box"

    def __init__(self, target_model: OpenClassifier, *, original: OpenClassifier | None = None) -> None:
        """`original` is the model as it was trained, if `target_model` is a faster network with the same outputs."""
        super().__init__(lambda images: target_model.head(target_model.features(target_model.normalize(images))))
        self.target_model = target_model
        self.original = original or target_model

    def logits(self, images: Tensor) -> Tensor:
        """Logits of all classes, with gradients. Shape: (B, C, H, W) in [0, 1] to (B, classes)."""
        return self.features_and_logits(images)[1]

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Penultimate features and logits of one pass, in single precision whatever the network computes in.

        Shape: (B, C, H, W) to (B, F), (B, classes).
        """
        features = self.target_model.features(self.target_model.normalize(images))
        logits = self.target_model.head(features)
        self.queries += len(images)
        return at_least_fp32(features), at_least_fp32(logits)

    def logits_and_inputs(
        self, images: Tensor, layers: Sequence[nn.Module]
    ) -> tuple[Tensor, list[tuple[nn.Module, Tensor]]]:
        """Logits, and the input of each of `layers` of `original`, in the order in which the layers run.

        Shape: (B, C, H, W) to (B, classes), and any shape with B rows for each layer.
        """
        read: list[tuple[nn.Module, Tensor]] = []
        hooks = [
            layer.register_forward_pre_hook(lambda hooked, inputs: read.append((hooked, inputs[0]))) for layer in layers
        ]
        try:
            logits = self.original.head(self.original.features(self.original.normalize(images)))
        finally:
            for hook in hooks:
                hook.remove()
        self.queries += len(images)
        return at_least_fp32(logits), read

    def score(self, images: Tensor, identities: Tensor) -> Tensor:
        """The logit of the identity."""
        return self.logits(images).gather(1, identities[:, None]).flatten()
