"""ViT-B/16 as torchvision has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from workloads.core.errors import ConfigError
from workloads.models.base import MODELS, LibraryClassifier, ModelConfig


class VitB16Config(ModelConfig):
    kind: Literal["vit_b_16"] = "vit_b_16"


@MODELS.register(VitB16Config)
class VitB16(LibraryClassifier):
    """ViT-B/16: twelve transformer blocks on patches of 16 pixels.

    Each block is a residual stage of its own; the shortcut that is scaled is that around its MLP, as published.

    Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021; torchvision.
    """

    def __init__(self, config: VitB16Config, **shape: int) -> None:
        from torchvision.models import vit_b_16

        size = shape["image_size"]
        if size % 16:
            raise ConfigError(f"vit_b_16 cuts images into patches of 16 pixels, got {size}: set a multiple of 16.")

        def body() -> tuple[nn.Module, int]:
            network = vit_b_16(weights=None, image_size=size)
            network.heads = nn.Identity()
            return network, network.hidden_dim

        super().__init__(config, body, **shape)

    def draw_weights(self, generator: torch.Generator) -> None:
        super().draw_weights(generator)
        body: Any = self.body
        body.class_token.data.normal_(std=0.02, generator=generator)  # torchvision begins at 0

    def imagenet_url(self) -> str:
        from torchvision.models import ViT_B_16_Weights

        return str(ViT_B_16_Weights.DEFAULT.url)

    def stages(self) -> list[tuple[str, nn.Module]]:
        body: Any = self.body
        blocks = [(f"block{index}", block) for index, block in enumerate(body.encoder.layers, start=1)]
        return [("patches", body.conv_proj), *blocks, ("norm", body.encoder.ln)]

    def scale_shortcuts(self, factors: Sequence[float]) -> None:
        """The leading blocks, as many as there are factors; the others keep their shortcuts."""
        blocks: Any = [block for name, block in self.stages() if name.startswith("block")]
        if len(factors) > len(blocks):
            raise ConfigError(f"factors: vit_b_16 has {len(blocks)} residual stages, got {len(factors)} factors.")
        body: Any = self.body
        for index, (block, factor) in enumerate(zip(blocks, factors, strict=False)):
            if factor != 1:
                body.encoder.layers[index] = DampedBlock(block, factor)


class DampedBlock(nn.Module):
    """A block of torchvision's encoder with a factor on the shortcut around its MLP; its parts keep their names."""

    def __init__(self, block: Any, factor: float) -> None:
        super().__init__()
        self.ln_1, self.self_attention, self.dropout = block.ln_1, block.self_attention, block.dropout
        self.ln_2, self.mlp = block.ln_2, block.mlp
        self.factor = factor

    def forward(self, tokens: Tensor) -> Tensor:
        normed = self.ln_1(tokens)
        attended, _ = self.self_attention(normed, normed, normed, need_weights=False)
        tokens = tokens + self.dropout(attended)
        return self.factor * tokens + self.mlp(self.ln_2(tokens))
