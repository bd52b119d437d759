"""What a classifier is: it owns its normalisation, shows its penultimate features, and starts from a generator."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional

from workloads.core.config import ComponentConfig, Location
from workloads.core.errors import ConfigError
from workloads.core.registry import Registry
from workloads.core.weights import cached_file, digest_of, load_weights, read_weights


class ModelConfig(ComponentConfig):
    """Architecture and input range of a classifier. Images are in [0, 1]; the model sees (image - mean) / std."""

    input_mean: float = 0.5
    input_std: PositiveFloat = 0.5
    weights: Annotated[str, Location()] = "none"
    """What training starts from: `none`, `imagenet` where the library has such weights, or a file of weights. The last
    layer always starts afresh."""
    input_size: PositiveInt | None = None
    """Side in pixels of what the network reads; images of another size are resized to it, none are where omitted."""
    weights_digest: str | None = None
    """SHA-256 of the file, filled in; so a key follows what a file holds and not where it lies."""

    @property
    def label(self) -> str:
        """A short name for tables and for numbers that depend on the network."""
        return self.kind

    @model_validator(mode="before")
    @classmethod
    def _take_digest(cls, given: Any) -> Any:
        weights = given.get("weights") if isinstance(given, dict) else None
        if not isinstance(weights, str) or weights == "none":
            return given
        return {**given, "weights_digest": weights if weights == "imagenet" else digest_of(Path(weights))}


class Classifier(nn.Module, ABC):
    """Images in [0, 1] to logits.

    Size and normalisation of the input are part of the model and are stored with it. Training calls the two halves
    apart, because defenses act on normalised images: `classify(normalize(images))` equals `forward(images)`.

    A subclass builds its layers in `__init__`, gives `features` and sets `head`.
    """

    head: nn.Module
    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig, *, classes: int, channels: int, image_size: int) -> None:
        super().__init__()
        self.config = config
        self.classes = classes
        self.image_size = image_size
        self.register_buffer("mean", torch.full((channels, 1, 1), config.input_mean))
        self.register_buffer("std", torch.full((channels, 1, 1), config.input_std))

    def normalize(self, images: Tensor) -> Tensor:
        if images.shape[-1] != self.image_size:
            size = (self.image_size, self.image_size)
            images = functional.interpolate(images, size, mode="bilinear", antialias=True)
        return (images - self.mean) / self.std

    @abstractmethod
    def features(self, normalized: Tensor) -> Tensor:
        """Penultimate features. Shape: (B, C, H, W) to (B, F)."""

    def classify(self, normalized: Tensor) -> Tensor:
        return self.head(self.features(normalized))

    def draw_weights(self, generator: torch.Generator) -> None:
        """Draw every weight anew."""
        initialize(self, generator)

    def start_from(self, config: ModelConfig) -> None:
        """Load the weights that training starts from, all but the head's.

        Raises:
            ConfigError: if they do not fit, or there are none of that name.
            DataError: if they are not on this machine.
        """
        if config.weights == "imagenet":
            raise ConfigError(f"{config.kind} has no imagenet weights: set weights to none or a file.")
        if config.weights != "none":
            load_weights(self, read_weights(Path(config.weights)), source=config.weights, skip=("head.", "mean", "std"))

    @abstractmethod
    def stages(self) -> list[tuple[str, nn.Module]]:
        """The blocks from input to features with their names, in order; together they hold all weights before the head.

        A defense freezes the first of them, or watches what they put out.
        """

    def scale_shortcuts(self, factors: Sequence[float]) -> None:
        """Multiply the skip connections of each residual stage, in place; 0 removes them, without their weights.

        Raises:
            ConfigError: if there are none, or another number of stages.
        """
        raise ConfigError(f"{self.config.kind} has no skip connections: use a residual model, such as resnet.")

    def training_logits(self, normalized: Tensor) -> tuple[Tensor, ...]:
        """What is trained: the logits, and those of auxiliary heads, each with a cross-entropy of its own."""
        return (self.classify(normalized),)

    def forward(self, images: Tensor) -> Tensor:
        """Shape: (B, C, H, W) in [0, 1] to logits (B, classes)."""
        return self.classify(self.normalize(images))


def stage_outputs(model: Classifier, normalized: Tensor) -> list[Tensor]:
    """What each stage puts out on the way to the features, in order. Shape: (B, C, H, W) to any with B rows each."""
    outputs: list[Tensor] = []
    hooks = [stage.register_forward_hook(lambda _, __, made: outputs.append(made)) for _, stage in model.stages()]
    try:
        model.features(normalized)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


class LibraryClassifier(Classifier):
    """A library's network for the features, and a linear head.

    The library draws the body's weights as it builds it, under a seed of the job (`Architecture.build`).
    """

    last_layers: ClassVar[tuple[str, ...]] = ("fc.", "classifier.", "heads.", "AuxLogits.fc.")
    """Beginnings of the names of weights that belong to the library's own classes."""
    fewest_pixels: ClassVar[int] = 32

    def __init__(
        self,
        config: ModelConfig,
        body: Callable[[], tuple[nn.Module, int]],
        *,
        classes: int,
        channels: int,
        image_size: int,
    ) -> None:
        super().__init__(config, classes=classes, channels=channels, image_size=image_size)
        if image_size < self.fewest_pixels:
            least = self.fewest_pixels
            raise ConfigError(
                f"{config.kind} needs images of {least} pixels or more, got {image_size}: raise image_size."
            )
        self.body, width = body()
        if channels != 3:
            _widen_first_convolution(self.body, channels)
        self.head = nn.Linear(width, classes)

    def features(self, normalized: Tensor) -> Tensor:
        return self.body(normalized)

    def draw_weights(self, generator: torch.Generator) -> None:
        initialize(self.head, generator)

    def imagenet_url(self) -> str | None:
        """Where the library keeps weights for ImageNet; None where it has none."""
        return None

    def start_from(self, config: ModelConfig) -> None:
        if config.weights != "imagenet":
            super().start_from(config)
        elif (url := self.imagenet_url()) is None:
            raise ConfigError(f"{config.kind} has no imagenet weights: set weights to none or a file.")
        else:
            load_weights(self.body, read_weights(cached_file(url)), source="imagenet", skip=self.last_layers)


def _widen_first_convolution(body: nn.Module, channels: int) -> None:
    """Another number of input channels, in place."""
    name, first = next((name, own) for name, own in body.named_modules() if isinstance(own, nn.Conv2d))
    path, _, last = name.rpartition(".")
    fresh = nn.Conv2d(
        channels,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]
        first.stride,  # type: ignore[arg-type]
        first.padding,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    setattr(body.get_submodule(path), last, fresh)


MODELS: Registry[ModelConfig, Classifier] = Registry("workloads.models")


WITHOUT_DRAWS = (nn.modules.batchnorm._BatchNorm, nn.InstanceNorm2d, nn.GroupNorm, nn.LayerNorm, nn.PReLU)
"""Layers that begin as constants."""


def initialize(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every weight anew from `generator`, since layers draw theirs from the global one.

    Convolutions: He normal over fan-out; linear layers: the uniform law of torch's own default; norms: identity.

    Raises:
        TypeError: for a layer with parameters of a type this does not know.
    """
    with torch.no_grad():
        for layer in module.modules():
            own = dict(layer.named_parameters(recurse=False))
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()
            elif isinstance(layer, nn.Linear):
                bound = 1 / math.sqrt(layer.in_features)
                for parameter in own.values():
                    parameter.uniform_(-bound, bound, generator=generator)
            elif isinstance(
                layer, (nn.modules.batchnorm._BatchNorm, nn.InstanceNorm2d, nn.GroupNorm, nn.LayerNorm, nn.PReLU)
            ):
                layer.reset_parameters()
            elif own:
                raise TypeError(f"no initialisation known for {type(layer).__name__}")
