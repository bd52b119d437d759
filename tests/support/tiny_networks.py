"""A member of every family of classifiers that takes a training step in a few hundredths of a second.

Families whose settings do not reach that far are built narrower or with fewer blocks than their libraries name. Layers,
the order in which they run and what they write in place stay those of the library.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torchvision
from timm.models.resnest import ResNestBottleneck
from timm.models.resnet import ResNet as TimmResNet
from torch import nn
from torchvision.models.densenet import DenseNet
from torchvision.models.maxvit import MaxVit
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.models.vgg import make_layers
from torchvision.models.vision_transformer import VisionTransformer

from workloads.models import improved_residual
from workloads.models.base import ModelConfig
from workloads.models.densenet import DensenetConfig
from workloads.models.facenet64 import Facenet64, Facenet64Config
from workloads.models.facenet112 import Facenet112, Facenet112Config
from workloads.models.facenet160 import Facenet160Config
from workloads.models.inception_2015 import Inception2015Config
from workloads.models.ir152 import Ir152, Ir152Config
from workloads.models.maxvit_t import MaxvitTConfig
from workloads.models.resnest import ResnestConfig
from workloads.models.resnet import ResnetConfig
from workloads.models.small_cnn import SmallCnnConfig
from workloads.models.timm import TimmConfig
from workloads.models.torchvision import TorchvisionConfig
from workloads.models.vgg16_bn import Vgg16BnConfig
from workloads.models.vit_b_16 import VitB16Config

FAMILIES: dict[str, ModelConfig] = {
    "small_cnn": SmallCnnConfig(width=4, stages=2),
    "vgg16_bn": Vgg16BnConfig(),
    "ir152": Ir152Config(),
    "resnet": ResnetConfig(),
    "densenet": DensenetConfig(),
    "resnest": ResnestConfig(),
    "maxvit_t": MaxvitTConfig(),
    "vit_b_16": VitB16Config(),
    "torchvision": TorchvisionConfig(name="shufflenet_v2_x0_5"),
    "timm": TimmConfig(name="test_resnet"),
    "facenet64": Facenet64Config(),
    "facenet112": Facenet112Config(),
    "facenet160": Facenet160Config(input_size=80),
    "inception_2015": Inception2015Config(input_size=75),
}
"""All but inception_v3, whose auxiliary head needs 299 pixels; its blocks are those of inception_2015."""
SIDES = {"ir152": 64, "facenet64": 64, "facenet112": 112, "facenet160": 80, "maxvit_t": 224, "inception_2015": 75}
"""Side of the images that a family reads, where it is not 32."""

VGG_WIDTHS: list[str | int] = [8, 8, "M", 8, 8, "M", 8, 8, 8, "M", 8, 8, 8, "M", 8, 8, 512, "M"]


def use_tiny_bodies(patch: pytest.MonkeyPatch) -> None:
    """Have libraries and families build bodies that are narrow and have few blocks."""
    for family in (Ir152, Facenet64, Facenet112):
        patch.setattr(family, "blocks", (1, 1, 1, 1))
    patch.setattr(improved_residual, "WIDTHS", (8, 8, 8, 512))
    patch.setattr(improved_residual, "EMBEDDING", 8)
    models = torchvision.models
    patch.setattr(models, "vgg16_bn", lambda **_: SimpleNamespace(features=make_layers(VGG_WIDTHS, batch_norm=True)))
    patch.setattr(models, "vit_b_16", lambda weights, image_size: VisionTransformer(image_size, 16, 4, 2, 16, 32))
    patch.setattr(models, "maxvit_t", lambda weights, input_size: _maxvit(input_size))
    tiny = {
        "resnet18": _resnet,
        "densenet121": lambda **_: DenseNet(4, (1, 1, 1, 1), 8),
    }
    _replace(patch, models, "get_model", tiny)
    _replace(patch, timm, "create_model", {"resnest50d": _resnest})


def _replace(patch: pytest.MonkeyPatch, library: Any, function: str, tiny: dict[str, Callable[..., nn.Module]]) -> None:
    """Have a library's function build tiny networks for some names, and what it builds for all others."""
    build = getattr(library, function)

    def build_tiny(name: str, **settings: Any) -> Any:
        return tiny[name](**settings) if name in tiny else build(name, **settings)

    patch.setattr(library, function, build_tiny)


def _resnet(**_: Any) -> nn.Module:
    """torchvision's ResNet with one block a stage, of an eighth of the channels."""
    network: Any = ResNet(BasicBlock, [1, 1, 1, 1])
    network.inplanes = 64
    for number, planes in enumerate((8, 16, 32, 64), start=1):
        setattr(network, f"layer{number}", network._make_layer(BasicBlock, planes, 1, stride=1 + (number > 1)))
    network.fc = nn.Linear(64, 1)
    return network


def _maxvit(input_size: tuple[int, int]) -> nn.Module:
    return MaxVit(input_size, 8, 7, [8, 8, 16, 16], [1, 1, 1, 1], head_dim=8, stochastic_depth_prob=0.0)


def _resnest(**_: Any) -> nn.Module:
    block: Any = ResNestBottleneck  # timm declares an instance where it takes a class
    return TimmResNet(
        block,
        (1, 1, 1, 1),
        num_classes=0,
        stem_type="deep",
        stem_width=8,
        avg_down=True,
        channels=(8, 8, 16, 16),
        block_args={"radix": 2, "avd": True, "avd_first": False},
    )
