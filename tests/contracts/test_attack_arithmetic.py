"""Attacks by gradients: latents, optimisers and losses in single precision, and no gradient of a weight."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.support.interruptions import context_at
from tests.support.searches import CLASSES, SEARCHES, Search, access_of
from workloads.inversion.attack import Access
from workloads.inversion.gradient_search import GradientAttack
from workloads.inversion.row_search import RowSearch
from workloads.inversion.rows import Rows
from workloads.observation.losses import LOSSES
from workloads.observation.oracles import WhiteBoxOracle

CPU = torch.device("cpu")
BLACK_BOX = ("brepmi", "rlbmi", "mirror by genes")
BY_GRADIENTS = {name: search for name, search in SEARCHES.items() if not name.startswith(BLACK_BOX)}


def in_bf16(search: Search) -> Search:
    config: Any = search.config
    changes = {"precision": "bf16"}
    if "host" in type(config).model_fields:
        return Search(config.model_copy(update={"host": config.host.model_copy(update=changes)}), search.prior)
    return Search(config.model_copy(update=changes), search.prior)


def networks_of(access: Access[Any]) -> Iterator[nn.Module]:
    if isinstance(access.target, WhiteBoxOracle):
        assert isinstance(access.target.target_model, nn.Module)
        yield access.target.target_model
    yield from access.surrogates
    if access.prior:
        yield access.prior


@pytest.mark.parametrize("name", BY_GRADIENTS)
def test_bf16_leaves_latents_optimisers_and_losses_in_single_precision(tmp_path: Path, name: str) -> None:
    search = in_bf16(SEARCHES[name])
    access, seen = access_of(search, CPU), set[torch.dtype]()
    move, render = GradientAttack.move, RowSearch.render

    def watched(attack: GradientAttack[Any], *arguments: Any) -> Any:
        moved = move(attack, *arguments)
        seen.update(leaf.dtype for leaf in tree_leaves(moved) if leaf.is_floating_point())
        return moved

    def rendered(attack: RowSearch[Any], access: Access[Any], latents: Tensor, rows: Rows) -> Tensor:
        seen.add(latents.dtype)
        return render(attack, access, latents, rows)

    computed = set[torch.dtype]()
    for network in networks_of(access):
        for layer in network.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                layer.register_forward_hook(lambda layer, inputs, output: computed.add(output.dtype))
    with patch.object(GradientAttack, "move", watched), patch.object(RowSearch, "render", rendered):
        search.attack.run(access, torch.arange(CLASSES), context=context_at(tmp_path))
    assert seen == {torch.float32}
    assert torch.bfloat16 in computed


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_of_half_precision_logits_is_that_of_the_same_numbers_in_single_precision(name: str) -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).bfloat16()
    identities = torch.arange(5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = LOSSES[name](logits, identities)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, LOSSES[name](logits.float(), identities))


class WeightGradients(TorchDispatchMode):
    """Counts convolutions whose backward pass computes a gradient of their weights or their bias, and others."""

    def __init__(self) -> None:
        TorchDispatchMode.__init__(self)
        self.of_weights = self.of_inputs = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ == "convolution_backward":
            of_input, *of_weights = args[-1]
            self.of_inputs += of_input
            self.of_weights += any(of_weights)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", BY_GRADIENTS)
def test_no_gradient_of_a_weight_is_computed_even_where_weights_would_take_one(tmp_path: Path, name: str) -> None:
    search = SEARCHES[name]
    access = access_of(search, CPU)
    weights: list[Tensor] = [
        weight for network in networks_of(access) for weight in network.requires_grad_(True).parameters()
    ]
    with WeightGradients() as gradients:
        search.attack.run(access, torch.arange(CLASSES), context=context_at(tmp_path))
    assert gradients.of_inputs > 0
    assert gradients.of_weights == 0
    assert all(weight.grad is None for weight in weights)
