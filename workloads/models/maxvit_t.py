"""MaxViT-T as torchvision has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from workloads.core.errors import ConfigError
from workloads.models.base import MODELS, LibraryClassifier, ModelConfig
from workloads.models.resnet import NoShortcut, ScaledShortcut


class MaxvitTConfig(ModelConfig):
    kind: Literal["maxvit_t"] = "maxvit_t"


@MODELS.register(MaxvitTConfig)
class MaxvitT(LibraryClassifier):
    """MaxViT-T: convolution, attention within windows and attention across a grid, in turn; 224 pixels.

    Scaled shortcuts are those of the convolution blocks, which join the stages' resolutions.

    Source: Tu et al., "MaxViT: Multi-axis Vision Transformer", ECCV 2022; torchvision.
    """

    def __init__(self, config: MaxvitTConfig, **shape: int) -> None:
        from torchvision.models import maxvit_t

        size = shape["image_size"]
        if size % 224:
            raise ConfigError(f"maxvit_t cuts images into 7 windows at every stage, got {size}: set image_size to 224.")

        def body() -> tuple[nn.Module, int]:
            network = maxvit_t(weights=None, input_size=(size, size))
            width = network.classifier[-1].in_features
            network.classifier[-1] = nn.Identity()
            return network, width

        super().__init__(config, body, **shape)

    def stages(self) -> list[tuple[str, nn.Module]]:
        body: Any = self.body
        blocks = [(f"block{index}", block) for index, block in enumerate(body.blocks, start=1)]
        return [("stem", body.stem), *blocks, ("projection", body.classifier)]

    def scale_shortcuts(self, factors: Sequence[float]) -> None:
        blocks: Any = [block for name, block in self.stages() if name.startswith("block")]
        if len(factors) != len(blocks):
            raise ConfigError(f"factors: maxvit_t has {len(blocks)} residual stages, got {len(factors)} factors.")
        for block, factor in zip(blocks, factors, strict=True):
            for layer in block.layers:
                convolutions = layer.layers.MBconv
                if factor == 0:
                    convolutions.proj = NoShortcut()
                elif factor != 1:
                    convolutions.proj = ScaledShortcut(nn.Sequential(convolutions.proj), factor)
