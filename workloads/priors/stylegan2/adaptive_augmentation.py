"""Augmentation of all that a critic sees, as often as keeps it from telling the images it was shown by heart."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ADAPTED_EVERY = 4
"""Looks at real images between two changes."""
SHIFT, SCALE = 0.125, 0.2
"""Standard deviations: of the image's side, of its logarithm to base 2."""
BRIGHTNESS, CONTRAST, SATURATION = 0.2, 0.5, 1.0
"""Standard deviations: of a range of 2, and of the other two's logarithms to base 2."""
COLOURS = 3


class AdaptiveAugmentation(nn.Module):
    """Random changes of place and colour, each with one probability that follows how sure the critic is.

    The critic sees real and made images through it, so that made images need not show the changes. The probability
    rises while the critic's values of real images are positive more often than `target` says (the mean of their signs),
    and falls while they are less often.

    Of the authors' changes of place and colour all are here but stretching; images are looked up bilinearly, not
    filtered, and what lies outside mirrors what is inside. Other than three channels change in brightness and contrast
    only.

    Source: Karras et al., "Training Generative Adversarial Networks with Limited Data", NeurIPS 2020, section 3 and
    appendix B.
    """

    probability: Tensor
    signs: Tensor
    looks: Tensor

    def __init__(self, *, target: float, pace: float) -> None:
        """`pace` is by how much the probability changes for each image looked at."""
        super().__init__()
        self._target, self._pace = target, pace
        self.register_buffer("probability", torch.zeros([]))
        self.register_buffer("signs", torch.zeros([]))
        self.register_buffer("looks", torch.zeros([], dtype=torch.int64))

    def forward(self, images: Tensor, draws: torch.Generator) -> Tensor:
        """Shape: (B, C, S, S) in about [-1, 1], kept; gradients pass, once."""
        probability = float(self.probability)
        if probability == 0:
            return images
        moves = random_moves(len(images), probability, draws).to(images)
        grid = F.affine_grid(moves, list(images.shape), align_corners=False)
        moved = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        matrices, offsets = random_colours(len(images), images.shape[1], probability, draws)
        return torch.baddbmm(offsets.to(images), matrices.to(images), moved.flatten(2)).view_as(images)

    @torch.no_grad()
    def watch(self, values: Tensor) -> None:
        """Learn the critic's values of real images it was shown, (B,), and follow them at every fourth look."""
        self.signs += values.sign().mean()
        self.looks += 1
        if int(self.looks) % ADAPTED_EVERY:
            return
        step = torch.sign(self.signs / ADAPTED_EVERY - self._target) * self._pace * len(values) * ADAPTED_EVERY
        self.probability.add_(step).clamp_(0, 1)
        self.signs.zero_()


def random_moves(count: int, probability: float, draws: torch.Generator) -> Tensor:
    """Mirroring, quarter turns, turns, scale and shift, as maps from places of the result to places of the image.

    Shape: (count, 2, 3), in the coordinates of `affine_grid`, where an image reaches from -1 to 1.
    """
    happens = _happens(5, count, probability, draws)
    chance = torch.rand(3, count, generator=draws)
    normal = torch.randn(3, count, generator=draws)
    mirror = 1 - 2 * happens[0] * (chance[0] < 0.5)
    quarters = happens[1] * (chance[1] * 4).floor()
    angle = math.pi / 2 * quarters + happens[2] * math.pi * (2 * chance[2] - 1)
    scale = torch.exp2(happens[3] * SCALE * normal[0])
    shift = 2 * SHIFT * happens[4] * normal[1:]
    across = torch.stack((mirror * angle.cos(), -angle.sin()), 1)
    down = torch.stack((mirror * angle.sin(), angle.cos()), 1)
    linear = torch.stack((across, down), 1) * scale[:, None, None]
    return torch.cat((linear, shift.T[:, :, None]), 2)


def random_colours(count: int, channels: int, probability: float, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Brightness and contrast; of three channels also luma mirrored, hue turned and saturation, about the grey axis.

    Returns:
        Matrices (count, channels, channels) and offsets (count, channels, 1) to apply to colours.
    """
    happens = _happens(5, count, probability, draws)[:, :, None, None]
    normal = torch.randn(3, count, 1, 1, generator=draws)
    chance = torch.rand(2, count, 1, 1, generator=draws)
    matrices = torch.exp2(happens[0] * CONTRAST * normal[0]) * torch.eye(channels)
    if channels == COLOURS:
        grey = torch.full((COLOURS, COLOURS), 1 / COLOURS)
        mirrored = torch.eye(COLOURS) - 2 * happens[2] * (chance[0] < 0.5) * grey
        turned = _turn_about_grey(happens[3] * math.pi * (2 * chance[1] - 1))
        saturated = grey + torch.exp2(happens[4] * SATURATION * normal[2]) * (torch.eye(COLOURS) - grey)
        matrices = saturated @ turned @ mirrored @ matrices
    brightness = (happens[1] * BRIGHTNESS * normal[1]).expand(-1, channels, -1)
    return matrices, matrices @ brightness


def _happens(kinds: int, count: int, probability: float, draws: torch.Generator) -> Tensor:
    """Shape: (kinds, count), 1 where a change happens and 0 where not."""
    return (torch.rand(kinds, count, generator=draws) < probability).float()


def _turn_about_grey(angles: Tensor) -> Tensor:
    """Rodrigues' rotation matrices about (1, 1, 1). Shape: (B, 1, 1) to (B, 3, 3)."""
    grey = torch.full((COLOURS, COLOURS), 1 / COLOURS)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    return angles.cos() * (torch.eye(COLOURS) - grey) + angles.sin() * cross + grey
