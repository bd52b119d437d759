"""Any classifier of torchvision by its name."""

from __future__ import annotations

import difflib
from typing import Literal

from torch import nn

from workloads.core.errors import ConfigError
from workloads.models.base import MODELS, LibraryClassifier, ModelConfig

HEADS = ("fc", "classifier", "heads", "head")


class TorchvisionConfig(ModelConfig):
    kind: Literal["torchvision"] = "torchvision"
    name: str = "resnet18"
    """As torchvision's `list_models` has it."""

    @property
    def label(self) -> str:
        return self.name


@MODELS.register(TorchvisionConfig)
class TorchvisionModel(LibraryClassifier):
    """A classifier of torchvision, its last linear layer replaced by ours.

    Source: torchvision.models; each model's paper is named there.
    """

    config: TorchvisionConfig

    def __init__(self, config: TorchvisionConfig, **shape: int) -> None:
        from torchvision import models

        known = models.list_models(module=models)
        if config.name not in known:
            near = difflib.get_close_matches(config.name, known, n=3, cutoff=0.4)
            raise ConfigError(f"name: torchvision has no {config.name!r}. Near it: {', '.join(near) or 'nothing'}.")

        def body() -> tuple[nn.Module, int]:
            network = models.get_model(config.name, weights=None)
            return network, take_off_last_layer(network, config.name)

        super().__init__(config, body, **shape)

    def imagenet_url(self) -> str:
        from torchvision import models

        return str(models.get_model_weights(self.config.name).DEFAULT.url)

    def stages(self) -> list[tuple[str, nn.Module]]:
        own: list[tuple[str, nn.Module]] = []
        for name, part in self.body.named_children():
            if name in HEADS:
                continue
            inner = list(part.named_children()) if isinstance(part, nn.Sequential) and len(part) > 1 else []
            own += [(f"{name}.{index}", block) for index, block in inner] or [(name, part)]
        return [(name, part) for name, part in own if any(True for _ in part.parameters())]


def take_off_last_layer(network: nn.Module, name: str) -> int:
    """Replace the last linear layer by nothing; the number of features it read.

    Raises:
        ConfigError: if there is no such layer where classifiers have it.
    """
    head = next((part for part in HEADS if hasattr(network, part)), None)
    linear = [
        path for path, own in getattr(network, head or "", nn.Identity()).named_modules() if isinstance(own, nn.Linear)
    ]
    if head is None or not linear:
        raise ConfigError(f"name: the last layer of {name!r} is not a linear one under {', '.join(HEADS)}.")
    path = ".".join(part for part in (head, linear[-1]) if part)
    parent, _, last = path.rpartition(".")
    width = int(network.get_submodule(path).in_features)  # type: ignore[arg-type]
    setattr(network.get_submodule(parent), last, nn.Identity())
    return width
