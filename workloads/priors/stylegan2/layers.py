"""Layers of StyleGAN2: weights scaled when used, convolutions modulated by a style, smooth changes of size.

Parameters are zero until they are drawn or loaded.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workloads.core.errors import ShapeError

SLOPE = 0.2
GAIN = math.sqrt(2)  # restores the variance that the leaky rectifier removes
SMOOTH = (1.0, 3.0, 3.0, 1.0)
"""Filter along both axes wherever the size changes, before it is scaled to sum to 1."""
TINY = 1e-8
GROUP = 4
"""Images over which a standard deviation is taken, if a batch has as many."""
DEVIATION_DECAY = 0.99


class DrawnLayer(nn.Module, ABC):
    """A layer that knows how its parameters are drawn."""

    @abstractmethod
    def draw_weights(self, draws: torch.Generator) -> None:
        """Draw the layer's own parameters anew, on the CPU whatever the layer's device."""


def draw_all(network: nn.Module, draws: torch.Generator) -> None:
    """Draw every parameter of a network anew."""
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, DrawnLayer):
                layer.draw_weights(draws)


def normal_like(tensor: Tensor, draws: torch.Generator) -> Tensor:
    """Draw standard normal numbers on the CPU, for a tensor of this shape, type and device."""
    return torch.randn(tensor.shape, generator=draws).to(tensor)


class ScaledLinear(DrawnLayer):
    """A linear layer whose weights have variance 1 and are scaled when used, so that Adam moves all layers alike.

    `rate` multiplies the learning rate and leaves the initial outputs as they are.

    Source: Karras et al., "Progressive Growing of GANs", ICLR 2018, section 4.1; the rate: Karras et al., CVPR 2019,
    appendix C.
    """

    def __init__(
        self, inputs: int, outputs: int, *, active: bool = False, rate: float = 1.0, bias: float = 0.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self._active, self._rate, self._first_bias = active, rate, bias

    def forward(self, inputs: Tensor) -> Tensor:
        """The scaled product, activated if the layer is. Shape: (..., in) to (..., out)."""
        scale = self._rate / math.sqrt(self.weight.shape[1])
        outputs = F.linear(inputs, self.weight * scale, self.bias * self._rate)
        return F.leaky_relu(outputs, SLOPE) * GAIN if self._active else outputs

    def draw_weights(self, draws: torch.Generator) -> None:
        """N(0, 1) over the learning-rate factor; biases at their first value."""
        self.weight.copy_(normal_like(self.weight, draws) / self._rate)
        self.bias.fill_(self._first_bias)


class ScaledConv(DrawnLayer):
    """A convolution with scaled weights, and with bias and leaky rectifier if `active`; `halve` halves the side.

    Source: Karras et al., ICLR 2018, section 4.1; the smoothing: Karras et al., CVPR 2019, section 2.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        side: int,
        *,
        halve: bool = False,
        active: bool = True,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, side, side))
        self.bias = nn.Parameter(torch.zeros(outputs)) if active else None
        self._halve, self._clamp = halve, clamp

    def forward(self, maps: Tensor) -> Tensor:
        """The scaled convolution, smoothed and halved if the layer halves."""
        weight = self.weight / math.sqrt(self.weight[0].numel())
        edge = self.weight.shape[2] // 2
        if not self._halve:
            outputs = F.conv2d(maps, weight, padding=edge)
        elif edge:
            outputs = F.conv2d(smoothed(maps, padding=edge + 1), weight, stride=2)
        else:
            outputs = F.conv2d(smoothed(maps, padding=1, stride=2), weight)
        if self.bias is not None:
            outputs = F.leaky_relu(outputs + self.bias[:, None, None], SLOPE) * GAIN
        return clamped(outputs, self._clamp)

    def draw_weights(self, draws: torch.Generator) -> None:
        """N(0, 1); biases 0."""
        self.weight.copy_(normal_like(self.weight, draws))
        if self.bias is not None:
            self.bias.zero_()


class StyledConv(DrawnLayer):
    """A 3 x 3 convolution whose weights a style modulates, then noise, a bias and a leaky rectifier.

    The style scales the input channels, and outputs are divided by the norm of their scaled weights. Scaling maps
    rather than weights gives the same result without one set of weights per image, which takes a CPU twice as long.

    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, section 2.2.
    """

    noise: Tensor

    def __init__(
        self, inputs: int, outputs: int, *, style_size: int, size: int, double: bool, clamp: float | None
    ) -> None:
        """`size` is the side of the outputs in pixels, twice that of the inputs if `double`."""
        super().__init__()
        self.affine = ScaledLinear(style_size, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise", torch.zeros(size, size))
        self._double, self._clamp = double, clamp

    def forward(self, maps: Tensor, style: Tensor, draws: torch.Generator | None) -> Tensor:
        """Noise is drawn anew for every image from `draws`, or is the one stored in the layer if None."""
        scales = self.affine(style)
        inputs = maps * scales[:, :, None, None]
        outputs = doubled_conv(inputs, self.weight) if self._double else F.conv2d(inputs, self.weight, padding=1)
        # The rectifier is homogeneous, so its gain can be applied to factors and offsets, which are small tensors.
        factors = GAIN * normalizers(self.weight, scales)
        offsets = GAIN * (self.noise_strength * self._noise(len(maps), draws) + self.bias[:, None, None])
        outputs = torch.addcmul(offsets.to(outputs), outputs, factors[:, :, None, None].to(outputs))
        return clamped(F.leaky_relu(outputs, SLOPE), self._clamp)

    def draw_weights(self, draws: torch.Generator) -> None:
        """N(0, 1) for weights and noise; biases and noise strength 0."""
        self.weight.copy_(normal_like(self.weight, draws))
        self.noise.copy_(normal_like(self.noise, draws))
        self.bias.zero_()
        self.noise_strength.zero_()

    def _noise(self, count: int, draws: torch.Generator | None) -> Tensor:
        if draws is None:
            return self.noise
        return torch.randn(count, 1, *self.noise.shape, generator=draws, device=self.noise.device).to(self.noise)


class ToColours(DrawnLayer):
    """Turns maps into colours: a 1 x 1 convolution whose input channels a style scales, without a rectifier."""

    def __init__(self, inputs: int, channels: int, *, style_size: int, clamp: float | None) -> None:
        super().__init__()
        self.affine = ScaledLinear(style_size, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.zeros(channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))
        self._clamp = clamp

    def forward(self, maps: Tensor, style: Tensor) -> Tensor:
        """Maps to colours, modulated by the style but not demodulated."""
        scales = self.affine(style) / math.sqrt(self.weight.shape[1])
        return clamped(F.conv2d(maps * scales[:, :, None, None], self.weight, self.bias), self._clamp)

    def draw_weights(self, draws: torch.Generator) -> None:
        """N(0, 1); biases 0."""
        self.weight.copy_(normal_like(self.weight, draws))
        self.bias.zero_()


class GroupDeviation(nn.Module):
    """Adds one map that says how much the images of a group differ, so that the critic notices a lack of variety.

    In eval mode the map holds the mean difference seen during training, so that each image is scored by itself.

    Source: Karras et al., ICLR 2018, section 3.
    """

    usual: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("usual", torch.zeros([]))

    def forward(self, maps: Tensor) -> Tensor:
        """Shape: (B, C, H, W) to (B, C + 1, H, W)."""
        deviations = self._observe(maps) if self.training else self.usual.expand(len(maps))
        plane = deviations[:, None, None, None].expand(-1, 1, *maps.shape[2:])
        return torch.cat((maps, plane), 1)

    def _observe(self, maps: Tensor) -> Tensor:
        deviations = group_deviations(maps)
        with torch.no_grad():
            self.usual.copy_(torch.lerp(deviations.mean(), self.usual, DEVIATION_DECAY))
        return deviations


def group_deviations(maps: Tensor, *, group: int = GROUP) -> Tensor:
    """Standard deviation within each image's group, averaged over channels and pixels.

    Images i, i + B / group, i + 2 B / group, ... form a group; a batch of fewer than `group` images is one group.

    Shape: (B, C, H, W) to (B,).

    Raises:
        ShapeError: if the batch cannot be split into groups of equal size.
    """
    members = min(group, len(maps))
    if len(maps) % members:
        raise ShapeError(f"{len(maps)} images make no groups of {members}: take a multiple of {members}.")
    groups = maps.unflatten(0, (members, -1))
    return (groups.var(0, correction=0) + TINY).sqrt().mean((1, 2, 3)).repeat(members)


def normalizers(weight: Tensor, scales: Tensor) -> Tensor:
    """One over the norm of each output channel's weights after its inputs were scaled.

    Shape: (O, I, K, K), (B, I) to (B, O).
    """
    return (scales.square() @ weight.square().sum((2, 3)).T + TINY).rsqrt()


def doubled_conv(maps: Tensor, weight: Tensor) -> Tensor:
    """Double the side of maps by zeros in between, convolve with a 3 x 3 kernel, and smooth.

    Shape: (B, I, S, S), (O, I, 3, 3) to (B, O, 2S, 2S).
    """
    return smoothed(F.conv_transpose2d(maps, weight.transpose(0, 1), stride=2), padding=1, gain=4)


def doubled(images: Tensor) -> Tensor:
    """Double the side of images with the smooth filter. Shape: (B, C, S, S) to (B, C, 2S, 2S)."""
    return F.conv_transpose2d(images, _smooth(images, gain=4), stride=2, padding=1, groups=images.shape[1])


def smoothed(maps: Tensor, *, padding: int, stride: int = 1, gain: float = 1.0) -> Tensor:
    """Apply the smooth filter to every map, with zeros beyond its edges."""
    return F.conv2d(maps, _smooth(maps, gain), padding=padding, stride=stride, groups=maps.shape[1])


def _smooth(maps: Tensor, gain: float) -> Tensor:
    """The filter for each channel. Shape: (C, 1, 4, 4)."""
    return _filter(gain, maps.dtype, maps.device).expand(maps.shape[1], 1, -1, -1)


@functools.cache
def _filter(gain: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The smooth filter along both axes, copied to a device once. Shape: (4, 4)."""
    axis = torch.tensor(SMOOTH).to(device, dtype) / sum(SMOOTH)
    return torch.outer(axis, axis) * gain


def clamped(maps: Tensor, bound: float | None) -> Tensor:
    """Clip values to [-bound, bound]; None leaves them."""
    return maps if bound is None else maps.clamp(-bound, bound)
