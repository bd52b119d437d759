"""Any classifier of timm by its name."""

from __future__ import annotations

import difflib
from typing import Any, Literal

from torch import nn

from workloads.core.errors import ConfigError
from workloads.models.base import MODELS, LibraryClassifier, ModelConfig


class TimmConfig(ModelConfig):
    kind: Literal["timm"] = "timm"
    name: str = "resnet18"
    """As timm's `list_models` has it."""

    @property
    def label(self) -> str:
        return self.name


@MODELS.register(TimmConfig)
class TimmModel(LibraryClassifier):
    """A classifier of timm, pooled to features, with a linear head of ours.

    Source: Wightman, "PyTorch Image Models", github.com/huggingface/pytorch-image-models.
    """

    config: TimmConfig

    def __init__(self, config: TimmConfig, **shape: int) -> None:
        import timm

        known = timm.list_models()
        if config.name not in known:
            near = difflib.get_close_matches(config.name, known, n=3, cutoff=0.4)
            raise ConfigError(f"name: timm has no {config.name!r}. Near it: {', '.join(near) or 'nothing'}.")

        def body() -> tuple[nn.Module, int]:
            network: Any = timm.create_model(config.name, pretrained=False, num_classes=0)
            return network, network.num_features

        super().__init__(config, body, **shape)

    def stages(self) -> list[tuple[str, nn.Module]]:
        return [(name, own) for name, own in self.body.named_children() if any(True for _ in own.parameters())]
