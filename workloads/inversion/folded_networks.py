"""Frozen networks made faster without changing what they compute: norms folded into layers, channels last.

On GPUs, gradients take kernels that are deterministic and fast: see `frozen_convolutions.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from workloads.inversion.frozen_convolutions import with_frozen_convolutions

Network = TypeVar("Network", bound=nn.Module)
Norm = nn.modules.batchnorm._BatchNorm
Linear = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def folded(network: Network, run: Callable[[Network], Tensor]) -> Network:
    """A copy whose batch norms are folded into the layers right before them, with its weights laid out channels last.

    Which norm follows which layer is found by running the network. If the outputs of the copy differ from those of the
    original beyond float rounding, for example because something else reads a layer before its norm, the norms stay.

    Args:
        network: in eval mode, its weights frozen.
        run: runs the network on some inputs as it will be used; called without gradients.
    """
    with torch.no_grad():
        faster = copy.deepcopy(network)
        for layer, norm in _pairs(faster, run):
            _fold(faster, layer, norm)
        expected, outputs = run(network), run(faster)
        if not torch.allclose(outputs, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())):
            faster = copy.deepcopy(network)
    if next(faster.parameters()).is_cuda:
        with_frozen_convolutions(faster)
    return faster.to(memory_format=torch.channels_last)


def _pairs(network: Network, run: Callable[[Network], Tensor]) -> list[tuple[str, str]]:
    """Names of each linear layer and the norm that reads its output, if both are run once."""
    names = {layer: name for name, layer in network.named_modules()}
    outputs: list[tuple[Tensor, nn.Module]] = []
    read: list[tuple[nn.Module, nn.Module]] = []

    def after_layer(layer: nn.Module, _: object, output: Tensor) -> None:
        outputs.append((output, layer))

    def before_norm(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        read.extend((layer, norm) for output, layer in outputs if output is inputs[0])

    hooks = [module.register_forward_hook(after_layer) for module in names if isinstance(module, Linear)]
    hooks += [module.register_forward_pre_hook(before_norm) for module in names if isinstance(module, Norm)]
    run(network)
    for hook in hooks:
        hook.remove()
    runs = [layer for _, layer in outputs]
    norms = [norm for _, norm in read]
    once = [(layer, norm) for layer, norm in read if runs.count(layer) == norms.count(norm) == 1 and _can_fold(layer)]
    return [(names[layer], names[norm]) for layer, norm in once]


def _can_fold(layer: nn.Module) -> bool:
    """Whether torch can fold a norm into the layer; a grouped transposed convolution orders its weights differently."""
    return not (isinstance(layer, nn.ConvTranspose2d) and layer.groups > 1)


def _fold(network: nn.Module, layer: str, norm: str) -> None:
    before, after = network.get_submodule(layer), network.get_submodule(norm)
    assert isinstance(after, Norm)
    if isinstance(before, nn.Linear):
        both: nn.Module = fuse_linear_bn_eval(before, after)
    else:
        # `_pairs` names linear layers and convolutions alone, which the type of a submodule does not say.
        both = fuse_conv_bn_eval(before, after, transpose=isinstance(before, nn.ConvTranspose2d))  # type: ignore[type-var]
    for name, replacement in ((layer, both), (norm, nn.Identity())):
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, replacement)
