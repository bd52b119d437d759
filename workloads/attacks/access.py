"""What an attack is given: the threat model as types. None holds private data or the evaluation model."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class ImageClassifier(Protocol):
    def __call__(self, images: Tensor, /) -> Tensor:
        """Shape: (B, C, H, W) in [0, 1] to logits (B, classes)."""


class GenerativePrior(Protocol):
    @property
    def latent_size(self) -> int: ...

    def synthesize(self, latents: Tensor) -> Tensor: ...

    def realism(self, images: Tensor) -> Tensor: ...


class WhiteBoxAccess:
    """The attacker holds the target model's weights: scores and gradients, with every image shown to it counted.

    The target model must be frozen and in eval mode: no gradient of a weight is ever computed.
    """

    def __init__(self, target_model: ImageClassifier, prior: GenerativePrior, *, device: torch.device) -> None:
        self._target_model = target_model
        self.prior = prior
        self.device = device
        self.queries = 0

    def logits(self, images: Tensor) -> Tensor:
        self.queries += len(images)
        return self._target_model(images)
