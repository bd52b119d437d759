"""The improved residual networks of ArcFace, which the 64-pixel protocol builds its face models from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from workloads.core.errors import ConfigError
from workloads.models.base import Classifier, ModelConfig
from workloads.models.resnet import NoShortcut, ScaledShortcut

WIDTHS = (64, 128, 256, 512)
EMBEDDING = 512


class Bottleneck(nn.Module):
    """Norm, convolution, PReLU, strided convolution, norm; beside it a shortcut, and nothing after the sum."""

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
        shortcut: Tensor = self.shortcut(features)
        return self.residual(features) + shortcut


class ImprovedResidual(Classifier):
    """Stem, four stages, an embedding of 512 numbers and a linear head.

    Source: Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019.
    """

    blocks: ClassVar[tuple[int, int, int, int]]
    size: ClassVar[int]
    """Of the images it is made for, in pixels; other sizes are refused, since the embedding reads every position."""

    def __init__(self, config: ModelConfig, *, classes: int, channels: int, image_size: int) -> None:
        super().__init__(config, classes=classes, channels=channels, image_size=image_size)
        if image_size != self.size:
            raise ConfigError(f"{config.kind} takes images of {self.size} pixels, got {image_size}: set image_size.")
        self.stem = nn.Sequential(nn.Conv2d(channels, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        before = (64, *WIDTHS[:-1])
        self.body = nn.Sequential(
            *(_stage(*own) for own in zip(before, WIDTHS, self.blocks, strict=True)),
        )
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
        return self.embedding(self.body(self.stem(normalized)))

    def stages(self) -> list[tuple[str, nn.Module]]:
        body = [(f"stage{index}", stage) for index, stage in enumerate(self.body, start=1)]
        return [("stem", self.stem), *body, ("embedding", self.embedding)]

    def scale_shortcuts(self, factors: Sequence[float]) -> None:
        if len(factors) != len(self.body):
            raise ConfigError(
                f"factors: {self.config.kind} has {len(self.body)} residual stages, got {len(factors)} factors."
            )
        for stage, factor in zip(self.body, factors, strict=True):
            for block in stage.children():
                if factor == 0:
                    block.shortcut = NoShortcut()
                elif factor != 1:
                    block.shortcut = ScaledShortcut(nn.Sequential(block.shortcut), factor)  # type: ignore[arg-type]


def _stage(before: int, after: int, blocks: int) -> nn.Sequential:
    """The first block halves the resolution."""
    return nn.Sequential(Bottleneck(before, after, 2), *(Bottleneck(after, after, 1) for _ in range(blocks - 1)))
