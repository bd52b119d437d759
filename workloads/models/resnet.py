"""ResNets of torchvision."""

from __future__ import annotations

from typing import Literal

from torch import nn

from workloads.models.base import MODELS, ModelConfig
from workloads.models.shortcuts import FourStageResidual


class ResnetConfig(ModelConfig):
    """Depth and weights of a ResNet."""

    kind: Literal["resnet"] = "resnet"
    depth: Literal[18, 34, 50, 101, 152] = 18
    """Number of layers; from 50 on, blocks have bottlenecks."""

    @property
    def label(self) -> str:
        """The kind with its depth, such as resnet18."""
        return f"resnet{self.depth}"


@MODELS.register(ResnetConfig)
class Resnet(FourStageResidual):
    """ResNet of 18 to 152 layers at any resolution; inputs in [-1, 1] by default, as the 224-pixel protocol has them.

    Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; torchvision.
    """

    config: ResnetConfig

    def build_body(self) -> tuple[nn.Module, int]:
        """torchvision's network, without its last layer."""
        from torchvision import models

        network = models.get_model(self.config.label, weights=None)
        width = network.fc.in_features
        network.fc = nn.Identity()
        return network, width

    def imagenet_url(self) -> str:
        """Address of torchvision's default weights for ImageNet."""
        from torchvision import models

        return str(models.get_model_weights(self.config.label).DEFAULT.url)
