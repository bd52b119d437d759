"""Any classifier of torchvision, by name."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from workloads.core.errors import ConfigError
from workloads.models.base import MODELS, LibraryClassifier, ModelConfig, check_library_has, has_weights

HEADS = ("fc", "classifier", "heads", "head")
"""What torchvision's networks call the module with their last layer."""

AUXILIARY_HEADS = ("aux1", "aux2", "AuxLogits")
"""What torchvision's networks call classifiers that they train beside the last layer."""

DRAWN_WEIGHTS = {"googlenet": {"init_weights": True}, "inception_v3": {"init_weights": True}}
"""Arguments that choose torchvision's default draw of weights, where it warns that the default will change."""

POOL_TO_SEVERAL = ("alexnet", "vgg")
"""How the names begin of networks that pool to more than one pixel."""


class TorchvisionConfig(ModelConfig):
    """Which network of torchvision to build, and its weights."""

    version: ClassVar[int] = 2
    kind: Literal["torchvision"] = "torchvision"
    name: str = "resnet18"
    """Name of the network, as torchvision's `list_models` prints it."""

    @property
    def revision(self) -> int:
        """Raised for networks that pool to more than one pixel, too, which has other last bits as a matrix product."""
        return super().revision + self.name.startswith(POOL_TO_SEVERAL)

    @property
    def label(self) -> str:
        """Name of the network in torchvision."""
        return self.name


@MODELS.register(TorchvisionConfig)
class TorchvisionModel(LibraryClassifier):
    """A classifier of torchvision, its last layer replaced by a new linear one.

    Source: torchvision.models; each model's paper is named there.
    """

    config: TorchvisionConfig
    last_layers = (*LibraryClassifier.last_layers, "head.", *(f"{name}." for name in AUXILIARY_HEADS))

    def build_body(self) -> tuple[nn.Module, int]:
        """The network of this name, without its last layer."""
        from torchvision import models

        check_library_has("torchvision", self.config.name, models.list_models(module=models))
        network = drawn_network(self.config.name)
        remove_auxiliary_heads(network)
        return network, remove_last_layer(network, self.config.name)

    def named_as_published(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Names of torchvision; as here where a defense changed the last layer."""
        if not isinstance(self.head, nn.Linear) or any(not name.startswith(("body.", "head.")) for name in weights):
            return dict(weights)
        identities = (name for name, layer in self.body.named_modules() if isinstance(layer, nn.Identity))
        last = [name for name in identities if name.partition(".")[0] in HEADS][-1]
        return {
            name.removeprefix("body.") if name.startswith("body.") else name.replace("head", last, 1): weight
            for name, weight in weights.items()
        }

    def imagenet_url(self) -> str:
        """Address of torchvision's default weights for ImageNet."""
        from torchvision import models

        return str(models.get_model_weights(self.config.name).DEFAULT.url)

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Children with weights, or theirs if they are sequences."""
        blocks: list[tuple[str, nn.Module]] = []
        for name, part in self.body.named_children():
            if name in HEADS:
                continue
            inner = list(part.named_children()) if isinstance(part, nn.Sequential) and len(part) > 1 else []
            blocks += [(f"{name}.{index}", block) for index, block in inner] or [(name, part)]
        return [(name, block) for name, block in blocks if has_weights(block)]


def drawn_network(name: str) -> nn.Module:
    """A network of torchvision with random weights, on the default device.

    RegNets compute their widths as tensors, of which the meta device has no numbers: they are drawn on the CPU first.
    """
    from torchvision import models

    draw = functools.partial(models.get_model, name, weights=None, **DRAWN_WEIGHTS.get(name, {}))
    network: nn.Module
    try:
        network = draw()
    except NotImplementedError:
        device = torch.get_default_device()
        with torch.device("cpu"):
            network = draw().to(device)
    return network


def remove_auxiliary_heads(network: Any) -> None:
    """Leave out, in place, what GoogLeNet and Inception-v3 classify by in training alone, beside the last layer.

    Other weights are those that the network is drawn with beside such heads.
    """
    if getattr(network, "aux_logits", False):
        network.aux_logits = False
        for name in AUXILIARY_HEADS:
            if hasattr(network, name):
                setattr(network, name, None)


def remove_last_layer(network: nn.Module, name: str) -> int:
    """Replace the last linear layer by the identity, in place; returns how many features it read.

    Raises:
        ConfigError: if there is no such layer where classifiers have it.
    """
    children = dict(network.named_children())
    head = next((attribute for attribute in HEADS if attribute in children), None)
    linear_layers = [] if head is None else _linear_layers(children[head])
    if head is None or not linear_layers:
        raise ConfigError(f"name: the last layer of {name!r} is not a linear one under {', '.join(HEADS)}.")
    path, layer = linear_layers[-1]
    network.set_submodule(f"{head}.{path}" if path else head, nn.Identity())
    return layer.in_features


def _linear_layers(module: nn.Module) -> list[tuple[str, nn.Linear]]:
    return [(path, layer) for path, layer in module.named_modules() if isinstance(layer, nn.Linear)]
