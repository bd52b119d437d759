"""ResNeSts of timm."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from workloads.models.base import MODELS, ModelConfig
from workloads.models.shortcuts import FourStageResidual

TIMM_NAMES = {50: "resnest50d", 101: "resnest101e"}
"""What timm calls the network of each depth."""


class ResnestConfig(ModelConfig):
    """Depth and weights of a ResNeSt."""

    kind: Literal["resnest"] = "resnest"
    depth: Literal[50, 101] = 50
    """Number of layers."""

    @property
    def label(self) -> str:
        """The kind with its depth, such as resnest50."""
        return f"resnest{self.depth}"


@MODELS.register(ResnestConfig)
class Resnest(FourStageResidual):
    """ResNeSt-50 or -101: a residual network whose blocks split their channels and weigh the parts.

    Source: Zhang et al., "ResNeSt: Split-Attention Networks", CVPR workshops 2022; timm.
    """

    config: ResnestConfig

    def build_body(self) -> tuple[nn.Module, int]:
        """timm's network, without its last layer."""
        import timm

        network: Any = timm.create_model(TIMM_NAMES[self.config.depth], pretrained=False, num_classes=0)
        return network, network.num_features
