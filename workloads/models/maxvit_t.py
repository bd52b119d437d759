"""MaxViT-T of torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import nn

from workloads.core.errors import ConfigError
from workloads.models.base import MODELS, LibraryClassifier, ModelConfig
from workloads.models.shortcuts import check_factors, weakened


class MaxvitTConfig(ModelConfig):
    """Input range and weights of a MaxViT-T."""

    version: ClassVar[int] = 2
    kind: Literal["maxvit_t"] = "maxvit_t"


@MODELS.register(MaxvitTConfig)
class MaxvitT(LibraryClassifier):
    """MaxViT-T: convolution, attention within windows and attention across a grid, in turn; 224 pixels.

    `scale_shortcuts` scales the shortcuts of the convolution blocks.

    Source: Tu et al., "MaxViT: Multi-axis Vision Transformer", ECCV 2022; torchvision.
    """

    def build_body(self) -> tuple[nn.Module, int]:
        """torchvision's network, for sizes that its windows divide."""
        from torchvision.models import maxvit_t

        size = self.image_size
        if size % 224:
            raise ConfigError(f"maxvit_t cuts images into 7 windows at every stage, got {size}: set image_size to 224.")
        network = maxvit_t(weights=None, input_size=(size, size))
        width = network.classifier[-1].in_features
        network.classifier[-1] = nn.Identity()
        return network, width

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Stem, blocks, projection."""
        blocks = enumerate(self.body.get_submodule("blocks").children(), start=1)
        named_blocks = [(f"block{number}", block) for number, block in blocks]
        stem, classifier = self.body.get_submodule("stem"), self.body.get_submodule("classifier")
        return [("stem", stem), *named_blocks, ("projection", classifier)]

    def scale_shortcuts(self, factors: Sequence[float]) -> None:
        """Weaken the shortcuts of each block's convolutions by its factor."""
        blocks = list(self.body.get_submodule("blocks").children())
        check_factors(self.config.kind, factors, stages=len(blocks))
        for block, factor in zip(blocks, factors, strict=True):
            for layer in block.get_submodule("layers").children():
                convolutions = layer.get_submodule("layers.MBconv")
                if factor != 1:
                    convolutions.proj = weakened(factor, convolutions.get_submodule("proj"))
