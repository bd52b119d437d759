"""What a target model gives away, as types: labels, scores, or all of itself. Every image shown to it is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

Answer = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) in [0, 1] to logits (B, classes)."""


class OpenClassifier(Protocol):
    """A classifier whose inside can be looked at, as `workloads.models.base.Classifier`."""

    @property
    def head(self) -> nn.Module: ...

    @property
    def mean(self) -> Tensor: ...

    @property
    def std(self) -> Tensor: ...

    def normalize(self, images: Tensor) -> Tensor: ...

    def features(self, normalized: Tensor) -> Tensor: ...

    def modules(self) -> Iterator[nn.Module]: ...


class LabelOracle:
    """The attacker learns which class the target model names, and nothing else of it."""

    access: ClassVar[str] = "labels only"

    def __init__(self, logits: Answer) -> None:
        self.queries = 0
        self._logits = logits

    def labels(self, images: Tensor) -> Tensor:
        """Shape: (B, C, H, W) in [0, 1] to (B,) int64."""
        return self._answer(images).argmax(1)

    @torch.no_grad()
    def _answer(self, images: Tensor) -> Tensor:
        logits = self._logits(images.detach())
        self.queries += len(images)  # once there is an answer: a batch too large for memory is asked about again
        return logits

    def score(self, images: Tensor, identities: Tensor) -> Tensor:
        """How much each image looks like its identity, as far as this oracle tells: 1 where it is named, else 0.

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
        """Shape: (B, C, H, W) in [0, 1] to (B, classes); no gradient reaches the images."""
        return self._answer(images).softmax(1)

    def confidence(self, images: Tensor, identities: Tensor) -> Tensor:
        """The probability of the identity."""
        return self.probabilities(images).gather(1, identities[:, None]).flatten()


class WhiteBoxOracle(ScoreOracle):
    """The attacker holds the target model itself, frozen and in eval mode: scores, features and gradients."""

    access = "white box"

    def __init__(self, target_model: OpenClassifier, *, original: OpenClassifier | None = None) -> None:
        """`original` is the model as it was trained, where `target_model` is a faster equal of it."""
        super().__init__(lambda images: target_model.head(target_model.features(target_model.normalize(images))))
        self.target_model = target_model
        self.original = original or target_model

    def logits(self, images: Tensor) -> Tensor:
        """Shape: (B, C, H, W) in [0, 1] to (B, classes)."""
        return self.features_and_logits(images)[1]

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Penultimate features and logits of one pass. Shape: (B, C, H, W) to (B, F), (B, classes)."""
        features = self.target_model.features(self.target_model.normalize(images))
        logits = self.target_model.head(features)
        self.queries += len(images)
        return features, logits

    def logits_and_inputs(
        self, images: Tensor, layers: Sequence[nn.Module]
    ) -> tuple[Tensor, list[tuple[nn.Module, Tensor]]]:
        """Logits, and what these layers of `original` read on the way, each time that one runs, in that order.

        Shape: (B, C, H, W) to (B, classes), and any with B rows each.
        """
        read: list[tuple[nn.Module, Tensor]] = []
        hooks = [own.register_forward_pre_hook(lambda layer, given: read.append((layer, given[0]))) for own in layers]
        try:
            logits = self.original.head(self.original.features(self.original.normalize(images)))
        finally:
            for hook in hooks:
                hook.remove()
        self.queries += len(images)
        return logits, read

    def score(self, images: Tensor, identities: Tensor) -> Tensor:
        """The logit of the identity."""
        return self.logits(images).gather(1, identities[:, None]).flatten()
