"""Any classifier of timm, by name."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import nn

from workloads.models.base import MODELS, LibraryClassifier, ModelConfig, check_library_has, has_weights


class TimmConfig(ModelConfig):
    """Which network of timm to build, and its weights."""

    version: ClassVar[int] = 2
    kind: Literal["timm"] = "timm"
    name: str = "resnet18"
    """Name of the network, as timm's `list_models` prints it."""

    @property
    def label(self) -> str:
        """Name of the network in timm."""
        return self.name


@MODELS.register(TimmConfig)
class TimmModel(LibraryClassifier):
    """A classifier of timm, pooled to features, its last layer replaced by a new linear one.

    Source: Wightman, "PyTorch Image Models", github.com/huggingface/pytorch-image-models.
    """

    config: TimmConfig
    last_layers = (*LibraryClassifier.last_layers, "head.", "head_dist.", "last_linear.")

    def build_body(self) -> tuple[nn.Module, int]:
        """The network of this name, without its last layer."""
        import timm

        check_library_has("timm", self.config.name, timm.list_models())
        network: Any = timm.create_model(self.config.name, pretrained=False, num_classes=0)
        # Some networks end in a layer of another width than that of their last feature maps.
        return network, getattr(network, "head_hidden_size", None) or network.num_features

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Direct children with weights."""
        return [(name, block) for name, block in self.body.named_children() if has_weights(block)]
