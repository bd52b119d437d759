"""The Inception network whose features the usual FID compares."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from workloads.core.weights import load_weights, read_weights
from workloads.models.base import MODELS, Classifier, LibraryClassifier, ModelConfig

PUBLISHED_CLASSES = 1008
"""Number of outputs of the published last layer, which is never loaded."""


class Inception2015Config(ModelConfig):
    """Input and weights of the Inception network of FID."""

    version: ClassVar = 3

    kind: Literal["inception_2015"] = "inception_2015"
    input_size: PositiveInt | None = 299
    """Side in pixels of the images that the network reads; FID is defined at 299."""


@MODELS.register(Inception2015Config)
class Inception2015(LibraryClassifier):
    """Inception-v3 as TensorFlow published it on 2015-12-05, an extractor of features for `fid` and `prdc`.

    Its blocks pool in another way than torchvision's: averages leave the padding out, and the last block takes the
    maximum. `weights` names a file on this machine, `pt_inception-2015-12-05-6726825d.pth` of pytorch-fid, which
    torch-fidelity and torchmetrics use as well. Images are enlarged as pytorch-fid does it; larger ones are scaled down
    with antialiasing, which pytorch-fid leaves out.

    Source: Szegedy et al., CVPR 2016; as a measure Heusel et al., NeurIPS 2017.
    """

    fewest_pixels = 75

    def build_body(self) -> tuple[nn.Module, int]:
        """The network of the published graph, without its last layer."""
        network = _network()
        width = network.fc.in_features
        network.fc = nn.Identity()
        return network, width

    def start_from(self, config: ModelConfig) -> None:
        """Weights of a file; nothing is downloaded."""
        if config.weights in ("none", "imagenet"):
            Classifier.start_from(self, config)
        else:
            load_weights(self.body, read_weights(Path(config.weights)), source=config.weights, skip=self.last_layers)

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Convolutions and mixed blocks."""
        return [(name, block) for name, block in self.body.named_children() if name.startswith(("Conv2d", "Mixed"))]


def _network() -> Any:
    """Build torchvision's network from blocks that pool as the published one does."""
    from torchvision.models import inception

    average = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
    blocks: Any = [inception.BasicConv2d, inception.InceptionA, inception.InceptionB, inception.InceptionC]
    blocks += [inception.InceptionD, inception.InceptionE, inception.InceptionAux]
    for index in (1, 3, 5):
        blocks[index] = _pooling(blocks[index], average)
    network: Any = inception.Inception3(
        PUBLISHED_CLASSES, aux_logits=False, transform_input=False, inception_blocks=blocks, init_weights=False
    )
    maximum = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
    network.Mixed_7c = _pooling(inception.InceptionE, maximum)(2048)
    return network


def _pooling(block: Any, pool: Callable[[Tensor], Tensor]) -> Any:
    """Derive a class of blocks that applies `pool` on its last branch, in place of torchvision's pooling."""

    def forward_branches(self: Any, maps: Tensor) -> list[Tensor]:
        branches = {**self._modules, "branch_pool": lambda _: self.branch_pool(pool(maps))}
        return block._forward(SimpleNamespace(**branches), maps)

    return type("Pooling", (block,), {"_forward": forward_branches})
