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


class FrozenConv2d(nn.Module):
    """A convolution of stride 1 for networks that are searched through: its weights get no gradient.

    Where the inputs' gradient has fast deterministic kernels (on CPUs, and on GPUs in tf32 and bf16) those are used.
    """

    turned: Tensor

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer
        turned = layer.weight.detach().transpose(0, 1).flip(2, 3).contiguous(memory_format=torch.channels_last)
        self.register_buffer("turned", turned)
        """The weights as the gradient needs them. Shape: (I, O, H, W)."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Shape: (B, I, H, W) to (B, O, H', W')."""
        if not inputs.is_cuda or torch.is_autocast_enabled("cuda") or torch.backends.cudnn.allow_tf32:
            outputs: Tensor = self.layer(inputs)
            return outputs
        return convolved(inputs, self.layer, self.turned)


def convolved(inputs: Tensor, layer: nn.Conv2d, turned: Tensor) -> Tensor:
    """What the layer puts out, with a gradient for `inputs` alone, which cannot be differentiated again.

    Args:
        inputs: shape (B, I, H, W).
        layer: a convolution for which `can_turn` holds.
        turned: its weights with inputs and outputs exchanged, and upside down. Shape: (I, O, H, W).
    """
    outputs: Tensor = _Convolution.apply(inputs, layer, turned)
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
                setattr(parent, name, FrozenConv2d(layer))


def _padding_of_gradient(layer: nn.Conv2d) -> tuple[int, int]:
    """Zeros around the gradient of the outputs: as many as let it grow back to the size of the inputs."""
    reach = [dilation * (side - 1) for dilation, side in zip(layer.dilation, layer.kernel_size, strict=True)]
    assert not isinstance(layer.padding, str)
    height, width = (total - padding for total, padding in zip(reach, layer.padding, strict=True))
    return height, width


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, layer: nn.Conv2d, turned: Tensor) -> Tensor:
        ctx.layer = layer
        ctx.save_for_backward(turned)
        return F.conv2d(inputs, layer.weight, layer.bias, 1, layer.padding, layer.dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (turned,) = ctx.saved_tensors
        return F.conv2d(gradient, turned, None, 1, _padding_of_gradient(ctx.layer), ctx.layer.dilation), None, None
