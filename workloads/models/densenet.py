"""DenseNets of torchvision."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from workloads.models.base import MODELS, JoinedLayers, LibraryClassifier, ModelConfig


class DensenetConfig(ModelConfig):
    """Depth and weights of a DenseNet."""

    kind: Literal["densenet"] = "densenet"
    depth: Literal[121, 161, 169, 201] = 121
    """Number of layers; 161 is the widest."""

    @property
    def label(self) -> str:
        """The kind with its depth, such as densenet121."""
        return f"densenet{self.depth}"


@MODELS.register(DensenetConfig)
class Densenet(LibraryClassifier):
    """DenseNet of 121 to 201 layers.

    Source: Huang et al., "Densely Connected Convolutional Networks", CVPR 2017; torchvision.
    """

    config: DensenetConfig

    def build_body(self) -> tuple[nn.Module, int]:
        """torchvision's network, without its classifier."""
        from torchvision import models

        network = models.get_model(self.config.label, weights=None)
        return network.features, network.classifier.in_features

    def features(self, normalized: Tensor) -> Tensor:
        """The last maps after ReLU, averaged over pixels."""
        return F.relu(self.body(normalized)).mean((2, 3))

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Stem, dense blocks, transitions and the last norm."""
        layers = dict(self.body.named_children())
        stem = ("stem", JoinedLayers(layers["conv0"], layers["norm0"]))
        blocks = [(name, layer) for name, layer in layers.items() if name.startswith(("denseblock", "transition"))]
        return [stem, *blocks, ("norm5", layers["norm5"])]
