"""Skip connections that can be weakened, and the library networks that have them in four stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from workloads.core.errors import ConfigError
from workloads.models.base import JoinedLayers, LibraryClassifier


class ScaledShortcut(nn.Sequential):
    """A shortcut times a factor. As a Sequential, it keeps the names of its layers' weights."""

    def __init__(self, factor: float, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.factor = factor

    def forward(self, features: Tensor) -> Tensor:
        """Shape: that of the layers' output."""
        for layer in self:
            features = layer(features)
        return self.factor * features


class NoShortcut(nn.Module):
    """A shortcut that adds nothing, whatever the shape."""

    def forward(self, features: Tensor) -> Tensor:
        """Shape: any to a single zero, which broadcasts."""
        return features.new_zeros(())


def weakened(factor: float, *layers: nn.Module) -> nn.Module:
    """Shortcut through `layers` times a factor; without weights if the factor is 0."""
    return NoShortcut() if factor == 0 else ScaledShortcut(factor, *layers)


def check_factors(kind: str, factors: Sequence[float], *, stages: int) -> None:
    """Refuse factors that are not one for each residual stage.

    Raises:
        ConfigError: with the number there should be.
    """
    if len(factors) != stages:
        raise wrong_number_of_factors(kind, factors, stages=stages)


def wrong_number_of_factors(kind: str, factors: Sequence[float], *, stages: int) -> ConfigError:
    """Error for factors that do not fit the number of residual stages."""
    return ConfigError(f"factors: {kind} has {stages} residual stages, got {len(factors)} factors.")


def scale_block_shortcuts(kind: str, stages: Sequence[nn.Module], factors: Sequence[float]) -> None:
    """Scale the shortcuts of all blocks, stage by stage, where a block sends its shortcut through `downsample` if set.

    Raises:
        ConfigError: if there are not as many factors as stages.
    """
    check_factors(kind, factors, stages=len(stages))
    for stage, factor in zip(stages, factors, strict=True):
        for child in stage.children():
            block: Any = child  # of a library
            if factor != 1:
                block.downsample = weakened(factor, *(block.downsample or ()))


class FourStageResidual(LibraryClassifier):
    """A library network of the ResNet family: a stem, and four stages of residual blocks."""

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Stem and the four layers."""
        stem = JoinedLayers(self.body.get_submodule("conv1"), self.body.get_submodule("bn1"))
        layers = [(name, self.body.get_submodule(name)) for name in ("layer1", "layer2", "layer3", "layer4")]
        return [("stem", stem), *layers]

    def scale_shortcuts(self, factors: Sequence[float]) -> None:
        """Weaken the shortcuts of each layer's blocks by its factor."""
        scale_block_shortcuts(self.config.kind, [stage for _, stage in self.stages()[1:]], factors)
