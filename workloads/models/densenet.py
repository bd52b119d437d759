"""DenseNets as torchvision has them."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from workloads.models.base import MODELS, LibraryClassifier, ModelConfig


class DensenetConfig(ModelConfig):
    kind: Literal["densenet"] = "densenet"
    depth: Literal[121, 161, 169, 201] = 121

    @property
    def label(self) -> str:
        return f"densenet{self.depth}"


@MODELS.register(DensenetConfig)
class Densenet(LibraryClassifier):
    """DenseNet of 121 to 201 layers.

    Source: Huang et al., "Densely Connected Convolutional Networks", CVPR 2017; torchvision.
    """

    config: DensenetConfig

    def __init__(self, config: DensenetConfig, **shape: int) -> None:
        from torchvision import models

        def body() -> tuple[nn.Module, int]:
            network = getattr(models, f"densenet{config.depth}")(weights=None)
            return network.features, network.classifier.in_features

        super().__init__(config, body, **shape)

    def features(self, normalized: Tensor) -> Tensor:
        return F.relu(self.body(normalized)).mean((2, 3))

    def stages(self) -> list[tuple[str, nn.Module]]:
        body: Any = self.body
        stem = ("stem", nn.Sequential(body.conv0, body.norm0))
        blocks = [(name, own) for name, own in body.named_children() if name.startswith(("denseblock", "transition"))]
        return [stem, *blocks, ("norm5", body.norm5)]
