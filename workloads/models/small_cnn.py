"""A small convolutional network for digits and quick studies."""

from __future__ import annotations

import itertools
from typing import ClassVar, Literal

from pydantic import PositiveInt
from torch import Tensor, nn

from workloads.core.resampling import AveragePool
from workloads.models.base import MODELS, Classifier, ModelConfig


class SmallCnnConfig(ModelConfig):
    """Size and weights of a small convolutional network."""

    version: ClassVar[int] = 2
    kind: Literal["small_cnn"] = "small_cnn"
    width: PositiveInt = 16
    """Channels of the first stage; each further stage doubles them."""
    stages: PositiveInt = 3
    """Number of stages: convolution, batch norm, ReLU and 2 x 2 pooling each."""


@MODELS.register(SmallCnnConfig)
class SmallCnn(Classifier):
    """A plain stack of convolutions with batch norm, pooled to features.

    Source: the layout of VGG (Simonyan and Zisserman, ICLR 2015) with one convolution per stage.
    """

    def __init__(self, config: SmallCnnConfig, *, classes: int, channels: int, image_size: int) -> None:
        super().__init__(config, classes=classes, channels=channels, image_size=image_size)
        widths = [channels, *(config.width * 2**stage for stage in range(config.stages))]
        self.body = nn.Sequential(*(_stage(before, after) for before, after in itertools.pairwise(widths)))
        self.pool = nn.Sequential(AveragePool(2), nn.Flatten())
        self.head = nn.Linear(4 * widths[-1], classes)

    def features(self, normalized: Tensor) -> Tensor:
        """The pooled output of the last stage."""
        return self.pool(self.body(normalized))

    def stages(self) -> list[tuple[str, nn.Module]]:
        """The stages of convolution, norm and pooling."""
        return [(f"stage{index}", stage) for index, stage in enumerate(self.body, start=1)]


def _stage(before: int, after: int) -> nn.Sequential:
    layers = [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2, ceil_mode=True))
