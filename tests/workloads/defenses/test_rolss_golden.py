"""Weakened skip connections against numbers recorded from the authors' code."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from tests.support.golden_networks import golden
from workloads.core.errors import ConfigError
from workloads.models.base import MODELS
from workloads.models.resnet import ResnetConfig
from workloads.models.shortcuts import scale_block_shortcuts
from workloads.models.small_cnn import SmallCnnConfig


def stage(factor: float) -> nn.Sequential:
    """Two basic blocks, 4 to 6 channels at stride 2, with the recorded weights."""
    shortcut = nn.Sequential(nn.Conv2d(4, 6, 1, stride=2, bias=False), nn.BatchNorm2d(6))
    blocks = nn.Sequential(BasicBlock(4, 6, stride=2, downsample=shortcut), BasicBlock(6, 6))
    scale_block_shortcuts("stage", [blocks], [factor])
    case = golden_weights_of_stage()
    kept = {name: tensor for name, tensor in case.items() if name in blocks.state_dict()}
    blocks.load_state_dict(kept, strict=False)
    return blocks.double().eval()


def golden_weights_of_stage() -> dict[str, Tensor]:
    stored = golden("rolss", weights=True)
    return {name.removeprefix("weights."): tensor for name, tensor in stored.items() if name.startswith("weights.")}


@pytest.mark.parametrize(("factor", "name"), [(1.0, "full"), (0.6, "factor_0.6"), (0.0, "factor_0")])
def test_a_scaled_stage_is_the_authors(factor: float, name: str) -> None:
    case, blocks = golden("rolss"), stage(factor)
    images = case["input"].double()
    torch.testing.assert_close(blocks[0](images), case[f"{name}.first_block_output"], rtol=0, atol=1e-10)
    torch.testing.assert_close(blocks(images), case[f"{name}.output"], rtol=0, atol=1e-10)
    torch.testing.assert_close(blocks.train()(images), case[f"{name}.train_output"], rtol=0, atol=1e-10)


def test_a_removed_shortcut_leaves_no_weights() -> None:
    full, cut = stage(1.0), stage(0.0)
    assert set(full.state_dict()) - set(cut.state_dict()) == {
        name for name in full.state_dict() if ".downsample." in name
    }


def test_another_number_of_stages_is_refused() -> None:
    model = MODELS.build(ResnetConfig(), classes=3, channels=3, image_size=32)
    with pytest.raises(ConfigError, match="resnet has 4 residual stages, got 2 factors"):
        model.scale_shortcuts((1.0, 0.0))


def test_a_model_without_shortcuts_refuses_with_a_way_out() -> None:
    model = MODELS.build(SmallCnnConfig(), classes=3, channels=3, image_size=32)
    with pytest.raises(ConfigError, match="small_cnn has no skip connections: use a residual model, such as resnet"):
        model.scale_shortcuts((0.0,))
