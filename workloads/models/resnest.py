"""ResNeSts as timm has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from workloads.models.base import MODELS, LibraryClassifier, ModelConfig
from workloads.models.resnet import scale_block_shortcuts

TIMM_NAMES = {50: "resnest50d", 101: "resnest101e"}


class ResnestConfig(ModelConfig):
    kind: Literal["resnest"] = "resnest"
    depth: Literal[50, 101] = 50

    @property
    def label(self) -> str:
        return f"resnest{self.depth}"


@MODELS.register(ResnestConfig)
class Resnest(LibraryClassifier):
    """ResNeSt-50 or -101: a residual network whose blocks split their channels and weigh the parts.

    Source: Zhang et al., "ResNeSt: Split-Attention Networks", CVPR workshops 2022; timm.
    """

    config: ResnestConfig

    def __init__(self, config: ResnestConfig, **shape: int) -> None:
        import timm

        def body() -> tuple[nn.Module, int]:
            network: Any = timm.create_model(TIMM_NAMES[config.depth], pretrained=False, num_classes=0)
            return network, network.num_features

        super().__init__(config, body, **shape)

    def stages(self) -> list[tuple[str, nn.Module]]:
        body: Any = self.body
        stem = nn.Sequential(body.conv1, body.bn1)
        return [("stem", stem), *((name, getattr(body, name)) for name in ("layer1", "layer2", "layer3", "layer4"))]

    def scale_shortcuts(self, factors: Sequence[float]) -> None:
        scale_block_shortcuts(self.config.kind, [stage for _, stage in self.stages()[1:]], factors)
