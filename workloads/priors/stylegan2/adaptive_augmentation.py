"""Augmentation of all images that a critic sees, just often enough to keep it from memorising the real ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from workloads.core.resampling import resample

ADAPTED_EVERY = 4
"""Batches of real images between two changes of the probability."""
SHIFT, SCALE = 0.125, 0.2
"""Standard deviations: of the shift, as a share of the image's side, and of the scale's logarithm to base 2."""
BRIGHTNESS, CONTRAST, SATURATION = 0.2, 0.5, 1.0
"""Standard deviations: of the brightness added to values in [-1, 1], and of the other two's logarithms to base 2."""
COLOURS = 3


class AdaptiveAugmentation(nn.Module):
    """Random geometric and colour changes, each applied with one probability, which adapts to the critic's confidence.

    The critic sees both real and generated images through it, so generated images need not show the changes. The
    probability rises while the mean sign of the critic's values of real images is above `target`, and falls while it is
    below.

    All of the authors' geometric and colour changes are here except stretching; images are interpolated bilinearly, not
    filtered, and reflected at their edges. Images without exactly three channels change in brightness and contrast
    only.

    Source: Karras et al., "Training Generative Adversarial Networks with Limited Data", NeurIPS 2020, section 3 and
    appendix B.
    """

    probability: Tensor
    signs: Tensor
    looks: Tensor

    def __init__(self, *, target: float, pace: float) -> None:
        """`pace` is the change of the probability per real image."""
        super().__init__()
        self._target, self._pace = target, pace
        self.register_buffer("probability", torch.zeros([]))
        self.register_buffer("signs", torch.zeros([]))
        self.register_buffer("looks", torch.zeros([], dtype=torch.int64))

    def forward(self, images: Tensor, draws: torch.Generator) -> Tensor:
        """Augment images; can be differentiated once. Shape: (B, C, S, S) in about [-1, 1], unchanged."""
        if _is_off(self.probability):
            return images
        maps = random_affine_maps(len(images), self.probability, draws)
        moved = resample(images, maps, turns=True, beyond="reflection")
        matrices, offsets = random_colours(len(images), images.shape[1], self.probability, draws)
        return torch.baddbmm(offsets.to(images), matrices.to(images), moved.flatten(2)).view_as(images)

    @torch.no_grad()
    def adapt(self, values: Tensor) -> None:
        """Note the critic's values of a batch of real images, (B,); every fourth batch changes the probability."""
        self.signs += values.sign().mean()
        self.looks += 1
        is_due = self.looks % ADAPTED_EVERY == 0
        step = torch.sign(self.signs / ADAPTED_EVERY - self._target) * self._pace * len(values) * ADAPTED_EVERY
        self.probability.add_(step * is_due).clamp_(0, 1)
        self.signs.mul_(~is_due)


def _is_off(probability: Tensor) -> bool:
    """Whether nothing is augmented. On a GPU, looking at the number would cost more than changing nothing."""
    return probability.device.type == "cpu" and bool(probability == 0)


def random_affine_maps(count: int, probability: Tensor, draws: torch.Generator) -> Tensor:
    """Draw mirroring, quarter turns, rotation, scale and shift, as maps from the result's coordinates to the image's.

    Shape: () to (count, 2, 3), in the coordinates of `affine_grid`, where an image reaches from -1 to 1.
    """
    device = probability.device
    applied = _applied(5, count, probability, draws)
    chance = torch.rand(3, count, generator=draws, device=device)
    normal = torch.randn(3, count, generator=draws, device=device)
    mirror = 1 - 2 * applied[0] * (chance[0] < 0.5)
    quarters = applied[1] * (chance[1] * 4).floor()
    angle = math.pi / 2 * quarters + applied[2] * math.pi * (2 * chance[2] - 1)
    scale = torch.exp2(applied[3] * SCALE * normal[0])
    shift = 2 * SHIFT * applied[4] * normal[1:]
    across = torch.stack((mirror * angle.cos(), -angle.sin()), 1)
    down = torch.stack((mirror * angle.sin(), angle.cos()), 1)
    linear = torch.stack((across, down), 1) * scale[:, None, None]
    return torch.cat((linear, shift.T[:, :, None]), 2)


def random_colours(count: int, channels: int, probability: Tensor, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw brightness and contrast; for three channels also luma flip, hue rotation and saturation.

    Shape: ().

    Returns:
        Matrices (count, channels, channels) and offsets (count, channels, 1) to apply to colours.
    """
    device = probability.device
    applied = _applied(5, count, probability, draws)[:, :, None, None]
    normal = torch.randn(3, count, 1, 1, generator=draws, device=device)
    chance = torch.rand(2, count, 1, 1, generator=draws, device=device)
    unchanged = torch.eye(channels, device=device)
    matrices = torch.exp2(applied[0] * CONTRAST * normal[0]) * unchanged
    if channels == COLOURS:
        grey = torch.full_like(unchanged, 1 / COLOURS)
        mirrored = unchanged - 2 * applied[2] * (chance[0] < 0.5) * grey
        turned = _rotate_about_grey(applied[3] * math.pi * (2 * chance[1] - 1))
        saturated = grey + torch.exp2(applied[4] * SATURATION * normal[2]) * (unchanged - grey)
        matrices = saturated @ turned @ mirrored @ matrices
    brightness = (applied[1] * BRIGHTNESS * normal[1]).expand(-1, channels, -1)
    return matrices, matrices @ brightness


def _applied(kinds: int, count: int, probability: Tensor, draws: torch.Generator) -> Tensor:
    """Draw which changes are applied. Shape: (kinds, count), 1 if applied and 0 if not."""
    return (torch.rand(kinds, count, generator=draws, device=probability.device) < probability).float()


def _rotate_about_grey(angles: Tensor) -> Tensor:
    """Rotation matrices about (1, 1, 1), by Rodrigues' formula. Shape: (B, 1, 1) to (B, 3, 3)."""
    unchanged = torch.eye(COLOURS, device=angles.device)
    grey = torch.full_like(unchanged, 1 / COLOURS)
    next_colour = unchanged.roll(1, 0)
    cross = (next_colour - next_colour.T) / math.sqrt(3)
    return angles.cos() * (unchanged - grey) + angles.sin() * cross + grey
