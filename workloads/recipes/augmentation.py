"""Augmentation of a batch of training images on its device; each image has its own draws, made there too."""

from __future__ import annotations

import functools
import math
from typing import Annotated, NamedTuple

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, model_validator
from torch import Tensor

from workloads.core.config import ACCEPTS_LISTS, FrozenConfig
from workloads.core.errors import ConfigError
from workloads.core.resampling import resample

LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601-2, as in torchvision
TO_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


class AugmentationConfig(FrozenConfig):
    """How training images are varied, in [0, 1], before they are normalised. Evaluation never varies them."""

    flip: bool = False
    """Mirror each image with probability 1/2."""
    shift: NonNegativeInt = 0
    """Move each image by up to this many pixels in each direction; its edge is repeated."""
    crop_scale: Annotated[tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(le=1)]] | None, ACCEPTS_LISTS] = (
        None
    )
    """Smallest and largest area of a square crop at a random place, as fractions of the image; the crop is scaled to
    full size. None does not crop."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest turn to either side, in degrees."""
    brightness: NonNegativeFloat = 0.0
    """Brightness is multiplied by a factor drawn from 1 +- this, never below 0."""
    contrast: NonNegativeFloat = 0.0
    """Contrast about the mean luma is multiplied by a factor drawn from 1 +- this, never below 0."""
    saturation: NonNegativeFloat = 0.0
    """Saturation is multiplied by a factor drawn from 1 +- this, never below 0."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest turn of the colour circle to either side, as a fraction of a full turn."""

    @property
    def revision(self) -> int | None:
        """2 where images are cropped, whose colours have other last bits since they come from matrix products."""
        return 2 if self.crop_scale and not self.rotation else None

    @model_validator(mode="after")
    def _ordered(self) -> AugmentationConfig:
        if self.crop_scale and self.crop_scale[0] > self.crop_scale[1]:
            raise ConfigError(f"crop_scale {list(self.crop_scale)} begins above its end: swap the two")
        return self


def augment(images: Tensor, config: AugmentationConfig, *, generator: torch.Generator) -> Tensor:
    """Vary each image by its own draws, made where the images are. Shape: (B, C, H, W) float in [0, 1], kept.

    The order is that of the published recipes: crop, turn, colours, mirror. Colours differ from torchvision's in two
    ways: the four changes have a fixed order and are clamped once at the end, and hue turns the YIQ plane instead of
    HSV's hexagon, which takes a fifth of the time.

    The views of attacks in `workloads.observation.views` also crop, turn and recolour, but are not these: there,
    contrast mixes an image with the mean over all its channels and each change is clamped, as the papers on attacks
    do; here, contrast mixes it with its mean luma, as torchvision does in the published training recipes. Results
    depend on both, so the two are kept apart.
    """
    if config.crop_scale or config.rotation:
        images = _resample(images, config, generator)
    if config.shift:
        images = _shifted(images, config.shift, generator)
    if config.brightness or config.contrast or config.saturation or config.hue:
        images = _recoloured(images, config, generator)
    if config.flip:
        mirrored = torch.rand(len(images), generator=generator, device=images.device) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    return images


def _resample(images: Tensor, config: AugmentationConfig, generator: torch.Generator) -> Tensor:
    """Crop to a random square and turn, in one bilinear look-up. Pixels outside the image repeat its edge."""
    low, high = config.crop_scale or (1.0, 1.0)
    area, across, down, turn = torch.rand(4, len(images), generator=generator, device=images.device)
    side = (low + (high - low) * area).sqrt()
    angle = (2 * turn - 1) * math.radians(config.rotation)
    centre = torch.stack((2 * across - 1, 2 * down - 1), 1) * (1 - side)[:, None]
    turned = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), 1).view(-1, 2, 2)
    maps = torch.cat((turned * side[:, None, None], centre[:, :, None]), 2)
    return resample(images, maps, turns=config.rotation > 0)


def _shifted(images: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """Move each image by a random number of pixels along both axes."""
    height, width = images.shape[2:]
    image, lines, places = (torch.arange(count, device=images.device) for count in (len(images), height, width))
    corners = torch.randint(2 * shift + 1, (len(images), 2), generator=generator, device=images.device) - shift
    rows = (corners[:, :1] + lines).clamp(0, height - 1)[:, :, None]
    columns = (corners[:, 1:] + places).clamp(0, width - 1)[:, None, :]
    return images[image[:, None, None], :, rows, columns].permute(0, 3, 1, 2).contiguous()


def _recoloured(images: Tensor, config: AugmentationConfig, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue by one 3 x 3 matrix and one offset per image, then clamp once."""
    draws = 2 * torch.rand(4, len(images), generator=generator, device=images.device).to(images.dtype) - 1
    strengths = (config.brightness, config.contrast, config.saturation)
    brightness, contrast, saturation = (
        (1 + strength * draw).clamp(min=0)[:, None, None] for strength, draw in zip(strengths, draws[:3], strict=True)
    )
    grey = brightness * _luma(images).mean((2, 3))[:, :, None]
    if images.shape[1] != 3:
        scaled = images * (brightness * contrast)[..., None] + ((1 - contrast) * grey)[..., None]
        return scaled.clamp_(0, 1)
    weights = _constants(images.dtype, images.device).luma
    identity = torch.eye(3, dtype=images.dtype, device=images.device)
    saturate = saturation * identity + (1 - saturation) * weights.expand(3, 3)
    colours = _hue_turn(draws[3] * config.hue * 2 * math.pi, images) @ saturate
    matrix = colours * (brightness * contrast)
    offset = colours @ ((1 - contrast) * grey).expand(-1, 3, 1)
    return torch.baddbmm(offset, matrix, images.flatten(2)).view_as(images).clamp_(0, 1)


def _luma(images: Tensor) -> Tensor:
    """Grey images as the eye weighs the colours; others than RGB stay. Shape: (B, C, H, W) to (B, 1, H, W)."""
    if images.shape[1] != 3:
        return images
    weights = _constants(images.dtype, images.device).luma
    return torch.einsum("bchw,c->bhw", images, weights)[:, None]


def _hue_turn(angles: Tensor, like: Tensor) -> Tensor:
    """Matrices that turn colours about the grey axis, by angles in radians. Shape: (B,) to (B, 3, 3)."""
    constants = _constants(like.dtype, like.device)
    turn = torch.eye(3, dtype=like.dtype, device=like.device).repeat(len(angles), 1, 1)
    turn[:, 1, 1] = turn[:, 2, 2] = angles.cos()
    turn[:, 1, 2], turn[:, 2, 1] = -angles.sin(), angles.sin()
    return constants.from_yiq @ turn @ constants.to_yiq


class _Constants(NamedTuple):
    """What colours are weighed and turned by, on one device."""

    luma: Tensor
    to_yiq: Tensor
    from_yiq: Tensor


@functools.cache
def _constants(dtype: torch.dtype, device: torch.device) -> _Constants:
    """Copied to a device once a process."""
    with torch.inference_mode(False):
        luma, to_yiq = (torch.tensor(numbers, dtype=dtype, device="cpu") for numbers in (LUMA, TO_YIQ))
        return _Constants(*(constant.to(device) for constant in (luma, to_yiq, torch.linalg.inv(to_yiq))))
