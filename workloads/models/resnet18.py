"""ResNet-18 as torchvision has it."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from workloads.models.base import MODELS, Classifier, ModelConfig


class Resnet18Config(ModelConfig):
    kind: Literal["resnet18"] = "resnet18"


@MODELS.register(Resnet18Config)
class Resnet18(Classifier):
    """ResNet-18, untrained, at any resolution; inputs in [-1, 1] by default, as the 224-pixel protocol has them.

    Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; torchvision.
    """

    def __init__(self, config: Resnet18Config, *, classes: int, channels: int, image_size: int) -> None:
        from torchvision.models import resnet18

        super().__init__(config, classes=classes, channels=channels, image_size=image_size)
        self.body = resnet18(weights=None)
        if channels != 3:
            self.body.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        self.head = nn.Linear(self.body.fc.in_features, classes)
        self.body.fc = nn.Identity()

    def features(self, normalized: Tensor) -> Tensor:
        return self.body(normalized)
