"""What a classifier is: it owns its normalisation, shows its penultimate features, and starts from a generator."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from workloads.config import ComponentConfig
from workloads.errors import ConfigError
from workloads.registry import Registry


class ModelConfig(ComponentConfig):
    """Architecture and input range of a classifier. Images are in [0, 1]; the model sees (image - mean) / std."""

    input_mean: float = 0.5
    input_std: PositiveFloat = 0.5


class Classifier(nn.Module, ABC):
    """Images in [0, 1] to logits.

    Normalisation is part of the model and is stored with it. Training calls the two halves apart, because defenses
    act on normalised images: `classify(normalize(images))` equals `forward(images)`.

    A subclass builds its layers in `__init__`, gives `features` and sets `head`.
    """

    head: nn.Module
    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig, *, classes: int, channels: int, image_size: int) -> None:
        super().__init__()
        self.config = config
        self.classes = classes
        self.image_size = image_size
        self.register_buffer("mean", torch.full((channels, 1, 1), config.input_mean))
        self.register_buffer("std", torch.full((channels, 1, 1), config.input_std))

    def normalize(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std

    @abstractmethod
    def features(self, normalized: Tensor) -> Tensor:
        """Penultimate features. Shape: (B, C, H, W) to (B, F)."""

    def classify(self, normalized: Tensor) -> Tensor:
        return self.head(self.features(normalized))

    @abstractmethod
    def stages(self) -> list[tuple[str, nn.Module]]:
        """The blocks from input to features with their names, in order; together they hold all weights before the head.

        A defense freezes the first of them, or watches what they put out.
        """

    def scale_shortcuts(self, factors: Sequence[float]) -> None:
        """Multiply the skip connections of each residual stage, in place; 0 removes them, without their weights.

        Raises:
            ConfigError: if there are none, or another number of stages.
        """
        raise ConfigError(f"{self.config.kind} has no skip connections: use a residual model, such as resnet.")

    def training_logits(self, normalized: Tensor) -> tuple[Tensor, ...]:
        """What is trained: the logits, and those of auxiliary heads, each with a cross-entropy of its own."""
        return (self.classify(normalized),)

    def forward(self, images: Tensor) -> Tensor:
        """Shape: (B, C, H, W) in [0, 1] to logits (B, classes)."""
        return self.classify(self.normalize(images))


MODELS: Registry[Classifier] = Registry("workloads.models")


def initialize(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every weight anew from `generator`, since layers draw theirs from the global one.

    Convolutions: He normal over fan-out; linear layers: the uniform law of torch's own default; norms: identity.

    Raises:
        TypeError: for a layer with parameters of a type this does not know.
    """
    with torch.no_grad():
        for layer in module.modules():
            own = dict(layer.named_parameters(recurse=False))
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()
            elif isinstance(layer, nn.Linear):
                bound = 1 / math.sqrt(layer.in_features)
                for parameter in own.values():
                    parameter.uniform_(-bound, bound, generator=generator)
            elif isinstance(layer, (nn.modules.batchnorm._BatchNorm, nn.InstanceNorm2d, nn.GroupNorm, nn.LayerNorm)):
                layer.reset_parameters()
            elif own:
                raise TypeError(f"no initialisation known for {type(layer).__name__}")
