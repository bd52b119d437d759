"""Base class of the improved residual networks (IR) of ArcFace, the face models of the low-resolution protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from workloads.core.errors import ConfigError
from workloads.models.base import Classifier, ModelConfig
from workloads.models.shortcuts import check_factors, weakened

WIDTHS = (64, 128, 256, 512)
"""Channels of each stage."""
EMBEDDING = 512
"""Number of features."""


class Bottleneck(nn.Module):
    """A residual block: norm, convolution, PReLU, strided convolution, norm; no activation follows the sum."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.shortcut: nn.Module
        if before == after:
            self.shortcut = nn.MaxPool2d(1, stride)
        else:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        self.residual = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.Conv2d(before, after, 3, 1, 1, bias=False),
            nn.PReLU(after),
            nn.Conv2d(after, after, 3, stride, 1, bias=False),
            nn.BatchNorm2d(after),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Shape: (B, before, H, W) to (B, after, H / stride, W / stride)."""
        shortcut: Tensor = self.shortcut(features)
        return self.residual(features) + shortcut


class ImprovedResidual(Classifier):
    """A stem, four stages of residual blocks, an embedding of 512 numbers and a linear head.

    Source: Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019.
    """

    blocks: ClassVar[tuple[int, int, int, int]]
    """Number of blocks in each stage."""
    size: ClassVar[int]
    """Side in pixels of the images that the network is built for. Others are refused: its embedding reads every
    position."""

    def __init__(self, config: ModelConfig, *, classes: int, channels: int, image_size: int) -> None:
        super().__init__(config, classes=classes, channels=channels, image_size=image_size)
        if image_size != self.size:
            raise ConfigError(f"{config.kind} takes images of {self.size} pixels, got {image_size}: set image_size.")
        self.stem = nn.Sequential(nn.Conv2d(channels, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        before = (64, *WIDTHS[:-1])
        self.body = nn.Sequential(*map(_stage, before, WIDTHS, self.blocks))
        positions = (image_size // 16) ** 2
        self.embedding = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(512 * positions, EMBEDDING),
            nn.BatchNorm1d(EMBEDDING),
        )
        self.head = nn.Linear(EMBEDDING, classes)

    def features(self, normalized: Tensor) -> Tensor:
        """The embedding."""
        return self.embedding(self.body(self.stem(normalized)))

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Stem, stages of blocks, embedding."""
        body = [(f"stage{index}", stage) for index, stage in enumerate(self.body, start=1)]
        return [("stem", self.stem), *body, ("embedding", self.embedding)]

    def scale_shortcuts(self, factors: Sequence[float]) -> None:
        """Weaken the shortcuts of each stage's blocks by its factor."""
        check_factors(self.config.kind, factors, stages=len(self.body))
        for stage, factor in zip(self.body, factors, strict=True):
            for block in stage.modules():
                if isinstance(block, Bottleneck) and factor != 1:
                    block.shortcut = weakened(factor, block.shortcut)


def _stage(before: int, after: int, blocks: int) -> nn.Sequential:
    """Build a stage, whose first block halves the resolution."""
    return nn.Sequential(Bottleneck(before, after, 2), *(Bottleneck(after, after, 1) for _ in range(blocks - 1)))
