"""Base classes of classifiers: normalisation is part of the model, penultimate features can be read, weights are drawn
from a generator.
"""

from __future__ import annotations

import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, cast

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from workloads.core.config import ComponentConfig, Location
from workloads.core.errors import ConfigError
from workloads.core.numerics import at_least_fp32
from workloads.core.registry import Registry
from workloads.core.resampling import replace_adaptive_pools, resize
from workloads.core.weights import WeightsFileConfig, cached_file, load_weights, read_weights

Pair = tuple[int, int]
"""Height and width."""


class ModelConfig(WeightsFileConfig, ComponentConfig):
    """Architecture and input range of a classifier. Images are in [0, 1]; the model sees (image - mean) / std."""

    input_mean: float = 0.5
    """Subtracted from images in [0, 1] before the network reads them."""
    input_std: PositiveFloat = 0.5
    """Images are divided by it after the mean is subtracted; 0.5 for both gives inputs in [-1, 1]."""
    weights: Annotated[str, Location()] = "none"
    """Weights to begin training with: `none`, `imagenet` where the library has them, or a file of weights, relative to
    the spec file. The last layer always begins with fresh weights."""
    input_size: PositiveInt | None = None
    """Side in pixels of the images that the network reads; images of another size are resized to it. If omitted, the
    network is built for the size of the data set."""

    @property
    def revision(self) -> int:
        """Raised where images are resized, whose colours have other last bits since they come from matrix products."""
        return self.version + (self.input_size is not None)

    @property
    def label(self) -> str:
        """A short name for tables and for numbers that depend on the network."""
        return self.kind

    @classmethod
    def identify_weights(cls, weights: str) -> str:
        """`imagenet` stands for itself, a file for its digest."""
        return weights if weights == "imagenet" else super().identify_weights(weights)


class UnscaledInputConfig(ModelConfig):
    """A network that reads images in [0, 1] as they are, like all of the low-resolution protocol."""

    input_mean: float = 0.0
    """Subtracted from images in [0, 1] before the network reads them; the low-resolution protocol subtracts nothing."""
    input_std: PositiveFloat = 1.0
    """Images are divided by it after the mean is subtracted; the low-resolution protocol does not rescale them."""


class Classifier(nn.Module, ABC):
    """A network from images in [0, 1] to logits.

    Size and normalisation of the input are part of the model and are stored with it. Training calls the two halves
    apart, because defenses act on normalised images: `classify(normalize(images))` equals `forward(images)`.

    A subclass builds its layers in `__init__`, implements `features` and sets `head`.
    """

    head: nn.Module
    """The last layer, from features to logits."""
    mask: nn.Module
    """Between normalisation and network. It passes on all, unless a defense puts one here that hides something."""
    mean: Tensor
    """Shape: (C, 1, 1)."""
    std: Tensor
    """Shape: (C, 1, 1)."""

    def __init__(self, config: ModelConfig, *, classes: int, channels: int, image_size: int) -> None:
        super().__init__()
        self.config = config
        self.classes = classes
        self.image_size = image_size
        self.mask = nn.Identity()
        self.register_buffer("mean", torch.full((channels, 1, 1), config.input_mean))
        self.register_buffer("std", torch.full((channels, 1, 1), config.input_std))

    def normalize(self, images: Tensor) -> Tensor:
        """Resize images in [0, 1] to the size that the network reads, if they have another, and normalise them."""
        if images.shape[-1] != self.image_size:
            size = (self.image_size, self.image_size)
            images = resize(at_least_fp32(images), size, antialias=True)
        normalized: Tensor = self.mask((images - self.mean) / self.std)
        return normalized

    @abstractmethod
    def features(self, normalized: Tensor) -> Tensor:
        """Penultimate features of normalised images. Shape: (B, C, H, W) to (B, F)."""

    def classify(self, normalized: Tensor) -> Tensor:
        """Logits of normalised images. Shape: (B, C, H, W) to (B, classes)."""
        return self.head(self.features(normalized))

    def draw_weights(self, generator: torch.Generator) -> None:
        """Replace every weight by a fresh draw, in place."""
        initialize(self, generator)

    def start_from(self, config: ModelConfig) -> None:
        """Load the weights that training begins with, for all layers but the head.

        Raises:
            ConfigError: if they do not fit, or there are none of that name.
            DataError: if they are not on this machine.
        """
        if config.weights == "imagenet":
            raise ConfigError(f"{config.kind} has no imagenet weights: set weights to none or a file.")
        if config.weights != "none":
            weights = read_weights(Path(config.weights))
            load_weights(self, weights, source=config.weights, skip=("head.", "mean", "std"))

    def named_as_here(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a trained network of this architecture, last layer included, by the names that this class gives.

        Raises:
            ConfigError: if their last layer is not a linear one.
        """
        return dict(weights)

    def named_as_published(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights by the names of the library that the network comes from, where it is one; as here otherwise."""
        return dict(weights)

    @abstractmethod
    def stages(self) -> list[tuple[str, nn.Module]]:
        """Blocks from input to features with their names, in order; together they hold all weights before the head.

        A defense freezes the first of them, or regularises their outputs. Each is a module that the network runs, or
        `JoinedLayers`.
        """

    def scale_shortcuts(self, factors: Sequence[float]) -> None:
        """Multiply the skip connections of each residual stage by its factor, in place; 0 removes them.

        Raises:
            ConfigError: if the network has no skip connections, or another number of stages.
        """
        raise ConfigError(f"{self.config.kind} has no skip connections: use a residual model, such as resnet.")

    def training_logits(self, normalized: Tensor) -> tuple[Tensor, ...]:
        """Logits to train on: first the head's, then those of auxiliary heads, each with its own cross-entropy.

        Shape: (B, C, H, W) to (B, classes) each.
        """
        return (self.classify(normalized),)

    def forward(self, images: Tensor) -> Tensor:
        """Shape: (B, C, H, W) in [0, 1] to logits (B, classes)."""
        return self.classify(self.normalize(images))


class JoinedLayers(nn.Sequential):
    """Layers that a library's network runs one after another, but not as one module, seen as one stage."""


def output_layer(stage: nn.Module) -> nn.Module:
    """The module whose output is that of the stage, and which the network runs."""
    return stage[-1] if isinstance(stage, JoinedLayers) else stage


def hook_stages(model: Classifier, keep: Callable[[nn.Module, Tensor], None]) -> list[RemovableHandle]:
    """Have `keep` called with each stage's output layer and a copy of its output, whenever the network is run.

    It is a copy because the layer after a stage may write into the output: many activations of torchvision and timm do,
    and not all of them have a switch (DenseNet calls `F.relu(features, inplace=True)`). Networks stay as fast and as
    small as their libraries made them where nobody looks at stages. Gradients pass through the copy.
    """

    def keep_copy(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        keep(layer, output.clone())

    return [output_layer(stage).register_forward_hook(keep_copy) for _, stage in model.stages()]


def stage_outputs(model: Classifier, normalized: Tensor) -> list[Tensor]:
    """Output of each stage on the way to the features, in order. Shape: (B, C, H, W) to any with B rows each."""
    outputs: list[Tensor] = []
    hooks = hook_stages(model, lambda layer, output: outputs.append(output))
    try:
        model.features(normalized)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


def check_trains(model: Classifier) -> None:
    """Run a forward and a backward pass in training mode, on two black images of the size that the network reads.

    Networks without memory for their weights, on torch's meta device, show as well what does not fit. A network whose
    code reads numbers, which that device has none of, passes.

    Raises:
        ConfigError: if the network cannot be trained on images of this size, with the reason.
    """
    size = model.image_size
    model.train()
    try:
        logits = model.training_logits(torch.zeros(2, len(model.mean), size, size, device=model.mean.device))
        sum(
            (output.float().logsumexp(1).sum() for output in logits), torch.zeros((), device=model.mean.device)
        ).backward()
    except ConfigError:
        raise
    except TRAINING_ERRORS as error:
        if model.mean.is_meta and "meta" in str(error):
            return
        raise ConfigError(
            f"{model.config.label} cannot be trained on images of {size} pixels: {one_line(error)}. "
            "Raise image_size or input_size, or use another model."
        ) from error
    finally:
        model.zero_grad(set_to_none=True)


TRAINING_ERRORS = (RuntimeError, TypeError, ValueError, AttributeError, IndexError, AssertionError, ZeroDivisionError)
"""What code of libraries raises for tensors it is not made for."""


def one_line(error: BaseException) -> str:
    """The first line of an error's message, without the full stop."""
    return (str(error).partition("\n")[0] or type(error).__name__).rstrip(". ")


class LibraryClassifier(Classifier):
    """A network of a library without its last layer, followed by a linear head.

    The library draws the weights of this body while it builds it, under a seed of the job (`Architecture.build`).
    """

    last_layers: ClassVar[tuple[str, ...]] = ("fc.", "classifier.", "heads.", "AuxLogits.fc.")
    """How the names of weights begin that belong to the library's own classes, and are never loaded."""
    fewest_pixels: ClassVar[int] = 32
    """Side in pixels of the smallest images that the network can read."""

    def __init__(self, config: ModelConfig, *, classes: int, channels: int, image_size: int) -> None:
        super().__init__(config, classes=classes, channels=channels, image_size=image_size)
        self.body, width = self.build_body()
        replace_adaptive_pools(self.body)
        if image_size < self.fewest_pixels:
            least = self.fewest_pixels
            raise ConfigError(
                f"{config.kind} needs images of {least} pixels or more, got {image_size}: raise image_size."
            )
        if channels != 3:
            _replace_first_convolution(self.body, channels)
        self.head = nn.Linear(width, classes)

    @abstractmethod
    def build_body(self) -> tuple[nn.Module, int]:
        """Build the library's network without its last layer; also return how many features it puts out.

        Raises:
            ConfigError: if there is no such network, or none for images of this size.
        """

    def features(self, normalized: Tensor) -> Tensor:
        """The output of the library's network without its last layer."""
        return self.body(normalized)

    def draw_weights(self, generator: torch.Generator) -> None:
        """Draw the head; the library drew the rest when it built the network."""
        initialize(self.head, generator)

    def imagenet_url(self) -> str | None:
        """Address of the library's weights for ImageNet; None if it has none."""
        return None

    def start_from(self, config: ModelConfig) -> None:
        """Weights for ImageNet from torchvision's cache, or those of a file; the last layer stays as drawn.

        A file may name the weights as the library does, or as this class.
        """
        if config.weights != "imagenet":
            self._start_from_file(config)
        elif (url := self.imagenet_url()) is None:
            raise ConfigError(f"{config.kind} has no imagenet weights: set weights to none or a file.")
        else:
            load_weights(self.body, read_weights(cached_file(url)), source="imagenet", skip=self.last_layers)

    def named_as_here(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Names of the library become those of this class; classifiers beside the last layer are left out."""
        if any(name.startswith("body.") for name in weights):
            return dict(weights)
        here = self.body.state_dict()
        last = {name: weight for name, weight in weights.items() if name not in here}
        if any(not name.startswith(self.last_layers) for name in last):
            return {f"body.{name}": weight for name, weight in weights.items()}  # of another network, which is told
        body = {f"body.{name}": weight for name, weight in weights.items() if name in here}
        return body | _last_layer(last)

    def _start_from_file(self, config: ModelConfig) -> None:
        weights = {} if config.weights == "none" else read_weights(Path(config.weights))
        if not weights or any(name.startswith("body.") for name in weights):
            super().start_from(config)
            return
        here = self.body.state_dict()
        heads = tuple(name for name in weights if name.startswith(self.last_layers) and name not in here)
        load_weights(self.body, weights, source=config.weights, skip=heads)


def _last_layer(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a library calls its last layer, as the head of this class."""
    last = {name: weight for name, weight in weights.items() if not name.lower().startswith("aux")}
    head = {f"head.{name.rpartition('.')[2]}": weight for name, weight in last.items()}
    if len(head) != len(last) or head.keys() != {"head.weight", "head.bias"} or head["head.weight"].ndim != 2:
        raise ConfigError(f"the last layer is not a linear one: {', '.join(sorted(last)) or 'there is none'}.")
    return head


def _replace_first_convolution(body: nn.Module, channels: int) -> None:
    """Give the body another number of input channels, in place."""
    name, first = next((name, layer) for name, layer in body.named_modules() if isinstance(layer, nn.Conv2d))
    # In a 2-D convolution these are pairs, although torch declares tuples of any length.
    kernel_size, stride, padding = cast("tuple[Pair, Pair, Pair]", (first.kernel_size, first.stride, first.padding))
    has_bias = first.bias is not None
    body.set_submodule(name, nn.Conv2d(channels, first.out_channels, kernel_size, stride, padding, bias=has_bias))


def has_weights(module: nn.Module) -> bool:
    """Whether a module has any parameter."""
    return any(True for _ in module.parameters())


def check_library_has(library: str, name: str, names: Sequence[str]) -> None:
    """Refuse the name of a network that is not among those a library has.

    Raises:
        ConfigError: with the most similar names.
    """
    if name not in names:
        similar = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        raise ConfigError(f"name: {library} has no {name!r}. Near it: {', '.join(similar) or 'nothing'}.")


MODELS: Registry[ModelConfig, Classifier] = Registry("workloads.models")


CONSTANT_AT_START = (nn.modules.batchnorm._BatchNorm, nn.InstanceNorm2d, nn.GroupNorm, nn.LayerNorm, nn.PReLU)
"""Layers whose weights begin as constants, without a draw."""


def initialize(module: nn.Module, generator: torch.Generator) -> None:
    """Replace every weight of a module by a fresh draw, in place.

    Layers by themselves would draw from torch's global generator.

    Convolutions: He normal over fan-out, zero bias. Linear layers: the uniform distribution of torch's default.
    Normalisation layers: identity.

    Raises:
        TypeError: for a layer with parameters of a type that has no rule here.
    """
    with torch.no_grad():
        for layer in module.modules():
            parameters = dict(layer.named_parameters(recurse=False))
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()
            elif isinstance(layer, nn.Linear):
                bound = 1 / math.sqrt(layer.in_features)
                for parameter in parameters.values():
                    parameter.uniform_(-bound, bound, generator=generator)
            elif isinstance(layer, CONSTANT_AT_START):
                layer.reset_parameters()
            elif parameters:
                raise TypeError(f"no initialisation known for {type(layer).__name__}")
