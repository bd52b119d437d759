"""VGG16 with batch norm, in the layout of the low-resolution protocol."""

from __future__ import annotations

import itertools
from typing import Literal

from torch import Tensor, nn

from workloads.core.errors import ConfigError
from workloads.models.base import MODELS, Classifier, UnscaledInputConfig


class Vgg16BnConfig(UnscaledInputConfig):
    """Input range and weights of a VGG16."""

    kind: Literal["vgg16_bn"] = "vgg16_bn"


@MODELS.register(Vgg16BnConfig)
class Vgg16Bn(Classifier):
    """VGG16-BN whose flattened features go through a batch norm and one linear layer.

    At 64 pixels and 1000 classes it has 16,776,232 parameters.

    Source: Simonyan and Zisserman, ICLR 2015; head as in Chen et al., "Knowledge-Enriched Distributional Model
    Inversion Attacks", ICCV 2021, whose feature norm has a shift that is never learned.
    """

    def __init__(self, config: Vgg16BnConfig, *, classes: int, channels: int, image_size: int) -> None:
        from torchvision.models.vgg import cfgs, make_layers

        super().__init__(config, classes=classes, channels=channels, image_size=image_size)
        if image_size < 32:
            raise ConfigError(f"vgg16_bn halves the image five times and needs 32 pixels or more, got {image_size}.")
        layers = list(
            make_layers(cfgs["D"], batch_norm=True)
        )  # the layers of VGG16, without its head, seven times as large
        if channels != 3:
            layers[0] = nn.Conv2d(channels, 64, 3, padding=1)
        pools = [index for index, layer in enumerate(layers, start=1) if isinstance(layer, nn.MaxPool2d)]
        self.body = nn.Sequential(
            *(nn.Sequential(*layers[start:end]) for start, end in itertools.pairwise([0, *pools]))
        )
        width = 512 * (image_size // 32) ** 2
        self.norm = nn.BatchNorm1d(width)
        self.norm.bias.requires_grad_(False)
        self.head = nn.Linear(width, classes)

    def features(self, normalized: Tensor) -> Tensor:
        """The flattened maps after the last norm."""
        return self.norm(self.body(normalized).flatten(1))

    def stages(self) -> list[tuple[str, nn.Module]]:
        """The five blocks that end in a pooling layer, then the norm of the features."""
        blocks = [(f"block{index}", block) for index, block in enumerate(self.body, start=1)]
        return [*blocks, ("norm", self.norm)]
