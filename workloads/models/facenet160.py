"""The face network that face distances are measured with; its published weights were trained on VGGFace2."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from workloads.core.weights import load_weights, read_weights
from workloads.models.base import MODELS, Classifier, ModelConfig, has_weights

EMBEDDING = 512
"""Number of features."""
PUBLISHED_HEAD = "logits."
"""How the names begin of the published weights of its last layer, which are never loaded."""


class Facenet160Config(ModelConfig):
    """Input and weights of the FaceNet that face distances are measured with."""

    version: ClassVar[int] = 2
    kind: Literal["facenet160"] = "facenet160"
    input_size: PositiveInt | None = 160
    """Side in pixels of the images that the network reads; its published weights were trained at 160."""


@MODELS.register(Facenet160Config)
class Facenet160(Classifier):
    """Inception-ResNet v1 at 160 pixels with an embedding of 512 numbers.

    Layers have the names of the published weights (facenet-pytorch), whose head is not loaded. Distances between faces
    are those of embeddings scaled to unit length.

    Source: Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning", AAAI
    2017; Schroff et al., "FaceNet", CVPR 2015.
    """

    def __init__(self, config: Facenet160Config, *, classes: int, channels: int, image_size: int) -> None:
        super().__init__(config, classes=classes, channels=channels, image_size=image_size)
        self.conv2d_1a = NormedConvolution(channels, 32, 3, stride=2)
        self.conv2d_2a = NormedConvolution(32, 32, 3)
        self.conv2d_2b = NormedConvolution(32, 64, 3, padding=1)
        self.maxpool_3a = nn.MaxPool2d(3, stride=2)
        self.conv2d_3b = NormedConvolution(64, 80, 1)
        self.conv2d_4a = NormedConvolution(80, 192, 3)
        self.conv2d_4b = NormedConvolution(192, 256, 3, stride=2)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = Reduction(
            NormedConvolution(256, 384, 3, stride=2),
            _chain((256, 192, 1), (192, 192, 3), (192, 256, 3), reduces=True),
            nn.MaxPool2d(3, stride=2),
        )
        self.repeat_2 = nn.Sequential(*(_block17() for _ in range(10)))
        self.mixed_7a = Reduction(
            _chain((896, 256, 1), (256, 384, 3), reduces=True),
            _chain((896, 256, 1), (256, 256, 3), reduces=True),
            _chain((896, 256, 1), (256, 256, 3), (256, 256, 3), reduces=True),
            nn.MaxPool2d(3, stride=2),
        )
        self.repeat_3 = nn.Sequential(*(_block8(scale=0.2) for _ in range(5)))
        self.block8 = _block8(scale=1.0, activated=False)
        self.avgpool_1a = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.dropout = nn.Dropout(0.6)
        self.last_linear = nn.Linear(1792, EMBEDDING, bias=False)
        self.last_bn = nn.BatchNorm1d(EMBEDDING, eps=0.001)
        self.head = nn.Linear(EMBEDDING, classes)

    def features(self, normalized: Tensor) -> Tensor:
        """The output of all layers but the head."""
        for name, layer in self.named_children():
            if name != "head":
                normalized = layer(normalized)
        return normalized

    def start_from(self, config: ModelConfig) -> None:
        """Published weights of a file, but for the head."""
        if config.weights in ("none", "imagenet"):
            super().start_from(config)
        else:
            fresh = ("head.", "mean", "std", PUBLISHED_HEAD)
            load_weights(self, read_weights(Path(config.weights)), source=config.weights, skip=fresh)

    def stages(self) -> list[tuple[str, nn.Module]]:
        """All layers with weights but the head."""
        return [(name, layer) for name, layer in self.named_children() if name != "head" and has_weights(layer)]


class NormedConvolution(nn.Module):
    """A convolution without bias, batch norm and ReLU."""

    def __init__(
        self, before: int, after: int, size: int | tuple[int, int], stride: int = 1, padding: int | tuple[int, int] = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=0.001)

    def forward(self, maps: Tensor) -> Tensor:
        """Shape: (B, before, H, W) to (B, after, H', W')."""
        return F.relu(self.bn(self.conv(maps)))


class Branches(nn.Module):
    """Branches that read the same input, named branch0, branch1 and so on."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        for index, branch in enumerate(branches):
            self.add_module(f"branch{index}", branch)

    def joined(self, maps: Tensor) -> Tensor:
        """Outputs of all branches, concatenated along channels."""
        return torch.cat([branch(maps) for name, branch in self.named_children() if name.startswith("branch")], 1)


class Reduction(Branches):
    """Branches that halve the resolution."""

    def forward(self, maps: Tensor) -> Tensor:
        """Shape: (B, C, H, W) to (B, C', H / 2, W / 2)."""
        return self.joined(maps)


class Residual(Branches):
    """Branches whose output, projected and scaled, is added to the input."""

    def __init__(self, *branches: nn.Module, widths: tuple[int, int], scale: float, activated: bool = True) -> None:
        super().__init__(*branches)
        self.conv2d = nn.Conv2d(*widths, 1)
        self.scale = scale
        self.activated = activated

    def forward(self, maps: Tensor) -> Tensor:
        """Shape: (B, C, H, W) to the same."""
        added = self.conv2d(self.joined(maps)) * self.scale + maps
        return F.relu(added) if self.activated else added


def _chain(*layers: tuple[int, int, int | tuple[int, int]], reduces: bool = False) -> nn.Sequential:
    """Build convolutions that keep the resolution; if `reduces`, the last one halves it."""
    chain = [NormedConvolution(before, after, size, padding=_same(size)) for before, after, size in layers]
    if reduces:
        chain[-1] = NormedConvolution(*layers[-1], stride=2)
    return nn.Sequential(*chain)


def _same(size: int | tuple[int, int]) -> int | tuple[int, int]:
    return size // 2 if isinstance(size, int) else (size[0] // 2, size[1] // 2)


def _block35() -> Residual:
    branches = (
        NormedConvolution(256, 32, 1),
        _chain((256, 32, 1), (32, 32, 3)),
        _chain((256, 32, 1), (32, 32, 3), (32, 32, 3)),
    )
    return Residual(*branches, widths=(96, 256), scale=0.17)


def _block17() -> Residual:
    branches = NormedConvolution(896, 128, 1), _chain((896, 128, 1), (128, 128, (1, 7)), (128, 128, (7, 1)))
    return Residual(*branches, widths=(256, 896), scale=0.1)


def _block8(*, scale: float, activated: bool = True) -> Residual:
    branches = NormedConvolution(1792, 192, 1), _chain((1792, 192, 1), (192, 192, (1, 3)), (192, 192, (3, 1)))
    return Residual(*branches, widths=(384, 1792), scale=scale, activated=activated)
