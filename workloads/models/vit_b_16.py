"""ViT-B/16 of torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from workloads.core.errors import ConfigError
from workloads.models.base import MODELS, LibraryClassifier, ModelConfig
from workloads.models.shortcuts import wrong_number_of_factors


class VitB16Config(ModelConfig):
    """Input range and weights of a ViT-B/16."""

    kind: Literal["vit_b_16"] = "vit_b_16"


@MODELS.register(VitB16Config)
class VitB16(LibraryClassifier):
    """ViT-B/16: twelve transformer blocks on patches of 16 pixels.

    Each block counts as a residual stage. `scale_shortcuts` scales the shortcut around its MLP, as published.

    Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021; torchvision.
    """

    def build_body(self) -> tuple[nn.Module, int]:
        """torchvision's network, for sizes that its patches divide."""
        from torchvision.models import vit_b_16

        size = self.image_size
        if size % 16:
            raise ConfigError(f"vit_b_16 cuts images into patches of 16 pixels, got {size}: set a multiple of 16.")
        network = vit_b_16(weights=None, image_size=size)
        network.heads = nn.Identity()
        return network, network.hidden_dim

    def draw_weights(self, generator: torch.Generator) -> None:
        """Draw the class token as well, which torchvision begins at 0."""
        super().draw_weights(generator)
        class_token = self.body.get_parameter("class_token")
        class_token.data.normal_(std=0.02, generator=generator)  # torchvision begins at 0

    def imagenet_url(self) -> str:
        """Address of torchvision's default weights for ImageNet."""
        from torchvision.models import ViT_B_16_Weights

        return str(ViT_B_16_Weights.DEFAULT.url)

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Patches, encoder blocks, norm."""
        blocks = enumerate(self.body.get_submodule("encoder.layers").children(), start=1)
        named_blocks = [(f"block{number}", block) for number, block in blocks]
        patches, norm = self.body.get_submodule("conv_proj"), self.body.get_submodule("encoder.ln")
        return [("patches", patches), *named_blocks, ("norm", norm)]

    def scale_shortcuts(self, factors: Sequence[float]) -> None:
        """Scale the first blocks, as many as there are factors; the others keep their shortcuts."""
        blocks = dict(self.body.get_submodule("encoder.layers").named_children())
        if len(factors) > len(blocks):
            raise wrong_number_of_factors(self.config.kind, factors, stages=len(blocks))
        for (name, block), factor in zip(blocks.items(), factors, strict=False):
            if factor != 1:
                self.body.set_submodule(f"encoder.layers.{name}", DampedBlock(block, factor))


class DampedBlock(nn.Module):
    """A block of torchvision's encoder with a factor on the shortcut around its MLP; its parts keep their names."""

    def __init__(self, block: nn.Module, factor: float) -> None:
        super().__init__()
        self.ln_1 = block.get_submodule("ln_1")
        self.self_attention = block.get_submodule("self_attention")
        self.dropout = block.get_submodule("dropout")
        self.ln_2 = block.get_submodule("ln_2")
        self.mlp = block.get_submodule("mlp")
        self.factor = factor

    def forward(self, tokens: Tensor) -> Tensor:
        """Shape: (B, tokens, width) to the same."""
        normed = self.ln_1(tokens)
        attended, _ = self.self_attention(normed, normed, normed, need_weights=False)
        tokens = tokens + self.dropout(attended)
        return self.factor * tokens + self.mlp(self.ln_2(tokens))
