"""ResNets as torchvision has them, with skip connections that can be weakened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from workloads.core.errors import ConfigError
from workloads.models.base import MODELS, LibraryClassifier, ModelConfig


class ResnetConfig(ModelConfig):
    kind: Literal["resnet"] = "resnet"
    depth: Literal[18, 34, 50, 101, 152] = 18

    @property
    def label(self) -> str:
        return f"resnet{self.depth}"


@MODELS.register(ResnetConfig)
class Resnet(LibraryClassifier):
    """ResNet of 18 to 152 layers at any resolution; inputs in [-1, 1] by default, as the 224-pixel protocol has them.

    Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; torchvision.
    """

    config: ResnetConfig

    def __init__(self, config: ResnetConfig, **shape: int) -> None:
        from torchvision import models

        def body() -> tuple[nn.Module, int]:
            network = getattr(models, f"resnet{config.depth}")(weights=None)
            width = network.fc.in_features
            network.fc = nn.Identity()
            return network, width

        super().__init__(config, body, **shape)

    def imagenet_url(self) -> str:
        from torchvision import models

        return str(models.get_model_weights(f"resnet{self.config.depth}").DEFAULT.url)

    def stages(self) -> list[tuple[str, nn.Module]]:
        body: Any = self.body
        stem = nn.Sequential(body.conv1, body.bn1)
        return [("stem", stem), *((name, getattr(body, name)) for name in ("layer1", "layer2", "layer3", "layer4"))]

    def scale_shortcuts(self, factors: Sequence[float]) -> None:
        scale_block_shortcuts(self.config.kind, [stage for _, stage in self.stages()[1:]], factors)


def scale_block_shortcuts(kind: str, stages: Sequence[nn.Module], factors: Sequence[float]) -> None:
    """Scale the shortcut of each block of each stage, for blocks that send it through `downsample` where that is set.

    Raises:
        ConfigError: if there are not as many factors as stages.
    """
    if len(factors) != len(stages):
        raise ConfigError(f"factors: {kind} has {len(stages)} residual stages, got {len(factors)} factors.")
    for stage, factor in zip(stages, factors, strict=True):
        for block in stage.children():
            own: Any = block
            if factor == 0:
                own.downsample = NoShortcut()
            elif factor != 1:
                own.downsample = ScaledShortcut(own.downsample, factor)


class ScaledShortcut(nn.Sequential):
    """A shortcut times a factor; a Sequential, so that its weights keep their names."""

    def __init__(self, shortcut: nn.Module | None, factor: float) -> None:
        super().__init__(*(shortcut.children() if shortcut is not None else ()))
        self.factor = factor

    def forward(self, features: Tensor) -> Tensor:
        shortcut: Tensor = super().forward(features)  # type: ignore[no-untyped-call]
        return self.factor * shortcut


class NoShortcut(nn.Module):
    """Adds nothing, whatever the shape."""

    def forward(self, features: Tensor) -> Tensor:
        return features.new_zeros(())
