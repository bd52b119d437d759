"""Convolutions with frozen weights, whose gradient is a convolution too: deterministic on GPUs, and fast in fp32.

Without tensor cores, cuDNN's fast kernels for the gradient with regard to the inputs add up in any order, and its
deterministic ones take twice as long. Of its forward kernels all are deterministic, and the gradient of a convolution
of stride 1 is a forward convolution with the weights turned around.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class FrozenConv2d(nn.Conv2d):
    """A convolution of stride 1 for networks that are searched through: its weights get no gradient.

    Where the inputs' gradient has fast deterministic kernels (on CPUs, and on GPUs in tf32 and bf16) those are used.
    """

    turned: Tensor
    """The weights with inputs and outputs exchanged, and upside down. Shape: (I, O, H, W)."""

    @staticmethod
    def of(layer: nn.Conv2d) -> FrozenConv2d:
        """The same convolution, with the weights of this layer. `can_turn` has to hold for it."""
        with torch.device("meta"):  # no memory for weights that are replaced at once
            frozen = FrozenConv2d(
                layer.in_channels,
                layer.out_channels,
                layer.kernel_size,  # type: ignore[arg-type]  # torch says tuples of any length, of its own attributes
                padding=layer.padding,  # type: ignore[arg-type]
                dilation=layer.dilation,  # type: ignore[arg-type]
            )
        frozen.weight, frozen.bias = layer.weight, layer.bias
        turned = layer.weight.detach().transpose(0, 1).flip(2, 3).contiguous(memory_format=torch.channels_last)
        frozen.register_buffer("turned", turned)
        return frozen.train(layer.training)

    def forward(self, inputs: Tensor) -> Tensor:
        """Shape: (B, I, H, W) to (B, O, H', W')."""
        if not inputs.is_cuda or torch.is_autocast_enabled("cuda") or torch.backends.cudnn.allow_tf32:
            return super().forward(inputs)
        return convolved(inputs, self)


def convolved(inputs: Tensor, layer: FrozenConv2d) -> Tensor:
    """What the layer puts out, with a gradient for `inputs` alone, which cannot be differentiated again.

    Shape: (B, I, H, W) to (B, O, H', W').
    """
    outputs: Tensor = _Convolution.apply(inputs, layer)
    return outputs


def can_turn(layer: nn.Module) -> bool:
    """Whether a layer is a plain convolution of stride 1, with zeros beyond the edges and not more of them than needed
    to keep the size of the maps."""
    if type(layer) is not nn.Conv2d or isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        return False
    return layer.stride == (1, 1) and layer.groups == 1 and min(_padding_of_gradient(layer)) >= 0


def with_frozen_convolutions(network: nn.Module) -> None:
    """Replace all convolutions that can be, in place; the network's weights are frozen."""
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Conv2d) and can_turn(layer):
                setattr(parent, name, FrozenConv2d.of(layer))


def _padding_of_gradient(layer: nn.Conv2d) -> tuple[int, int]:
    """Zeros around the gradient of the outputs: as many as let it grow back to the size of the inputs."""
    reach = [dilation * (side - 1) for dilation, side in zip(layer.dilation, layer.kernel_size, strict=True)]
    assert not isinstance(layer.padding, str)
    height, width = (total - padding for total, padding in zip(reach, layer.padding, strict=True))
    return height, width


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, layer: FrozenConv2d) -> Tensor:
        ctx.layer = layer
        return F.conv2d(inputs, layer.weight, layer.bias, 1, layer.padding, layer.dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        layer: FrozenConv2d = ctx.layer
        return F.conv2d(gradient, layer.turned, None, 1, _padding_of_gradient(layer), layer.dilation), None
