"""Networks made faster for use alone, without changing what they compute: folded norms, channels last."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

M = TypeVar("M", bound=nn.Module)
Norm = nn.modules.batchnorm._BatchNorm
Linear = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def folded(network: M, run: Callable[[M], Tensor]) -> M:
    """A copy whose batch norms are part of the layers right before them, with its weights laid out channels last.

    Which norm follows which layer is seen by running the network, so it may be written in any style. Where the copy
    disagrees with the original beyond float rounding, as when something else reads a layer before its norm does, the
    norms stay.

    Args:
        network: in eval mode, its weights frozen.
        run: what the network is used for, on some inputs; called without gradients.
    """
    with torch.no_grad():
        faster = copy.deepcopy(network)
        for layer, norm in _pairs(faster, run):
            _fold(faster, layer, norm)
        wanted, found = run(network), run(faster)
        if not torch.allclose(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max())):
            faster = copy.deepcopy(network)
    return faster.to(memory_format=torch.channels_last)


def _pairs(network: M, run: Callable[[M], Tensor]) -> list[tuple[str, str]]:
    """Names of each linear layer and the norm that reads its output, where both are run once."""
    names = {layer: name for name, layer in network.named_modules()}
    made: list[tuple[Tensor, nn.Module]] = []
    read: list[tuple[nn.Module, nn.Module]] = []

    def after_layer(layer: nn.Module, _: object, output: Tensor) -> None:
        made.append((output, layer))

    def before_norm(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        read.extend((layer, norm) for output, layer in made if output is inputs[0])

    hooks = [own.register_forward_hook(after_layer) for own in names if isinstance(own, Linear)]
    hooks += [own.register_forward_pre_hook(before_norm) for own in names if isinstance(own, Norm)]
    run(network)
    for hook in hooks:
        hook.remove()
    runs = [layer for _, layer in made]
    norms = [norm for _, norm in read]
    once = [(own, norm) for own, norm in read if runs.count(own) == norms.count(norm) == 1 and _can_fold(own)]
    return [(names[layer], names[norm]) for layer, norm in once]


def _can_fold(layer: nn.Module) -> bool:
    """A transposed convolution in groups orders its weights otherwise."""
    return not (isinstance(layer, nn.ConvTranspose2d) and layer.groups > 1)


def _fold(network: nn.Module, layer: str, norm: str) -> None:
    before, after = network.get_submodule(layer), network.get_submodule(norm)
    assert isinstance(after, Norm)
    if isinstance(before, nn.Linear):
        both: nn.Module = fuse_linear_bn_eval(before, after)
    else:
        both = fuse_conv_bn_eval(before, after, transpose=isinstance(before, nn.ConvTranspose2d))  # type: ignore[type-var]
    for name, replacement in ((layer, both), (norm, nn.Identity())):
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, replacement)
