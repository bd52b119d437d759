"""Auto-PGD: the strongest change of an image within a bound, found by steps that halve themselves where they stall."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MOMENTUM = 0.75
"""Share of a step that goes along the gradient; the rest goes on along the step before."""
FIRST_CHECK, SHORTEST_CHECK, SHORTER_BY = 0.22, 0.06, 0.03
"""Iterations until the step is looked at, the fewest, and how many fewer each time, as fractions of all iterations."""
RISES_ENOUGH = 0.75
"""Share of the iterations since the last look in which the loss has to rise, else the step is halved."""

Network = Callable[[Tensor], Tensor]
"""From images in [0, 1], (B, C, H, W), to logits, (B, classes), with a gradient."""
Loss = Callable[[Tensor], Tensor]
"""From logits, (B, classes), to a loss for each row that the search raises, (B,)."""


def fooled(
    network: Network, images: Tensor, identities: Tensor, loss: Loss, *, eps: float, iterations: int, start: Tensor
) -> Tensor:
    """Which images the network names wrong somewhere along a search within `eps` of each.

    Rows do not depend on each other.

    Args:
        images: in [0, 1], which the search does not leave. Shape: (B, C, H, W).
        identities: shape (B,) int64.
        eps: largest change of a pixel.
        start: where in the box the search begins; its largest absolute number goes to the edge. Shape: (C, H, W).

    Returns:
        Shape: (B,) bool.

    Source: Croce and Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-Free
    Attacks", ICML 2020, algorithm 1, with the intervals between looks of the authors' code.
    """
    low, high = (images - eps).clamp(min=0), (images + eps).clamp(max=1)
    current = previous = (images + eps * start / start.abs().max()).clamp(low, high)
    losses, slope, is_fooled = _look(network, current, identities, loss)
    best, best_losses, best_slope = current, losses, slope
    step = torch.full_like(losses, 2 * eps)[:, None, None, None]
    rises, best_at_look = torch.zeros_like(losses), losses
    was_halved = torch.ones_like(is_fooled)
    until_look = check_every = max(int(FIRST_CHECK * iterations), 1)
    for iteration in range(iterations):
        along = MOMENTUM if iteration else 1.0
        target = (current + step * slope.sign()).clamp(low, high)
        moved = (current + along * (target - current) + (1 - along) * (current - previous)).clamp(low, high)
        previous, current, before = current, moved, losses
        losses, slope, is_wrong = _look(network, current, identities, loss)
        is_fooled |= is_wrong
        rises += losses > before
        best, best_slope = _where(losses > best_losses, current, best), _where(losses > best_losses, slope, best_slope)
        best_losses = torch.maximum(losses, best_losses)
        until_look -= 1
        if until_look == 0:
            stalls = (rises <= RISES_ENOUGH * check_every) | (~was_halved & (best_at_look >= best_losses))
            step = _where(stalls, step / 2, step)
            current, slope = _where(stalls, best, current), _where(stalls, best_slope, slope)
            was_halved, best_at_look, rises = stalls, best_losses, torch.zeros_like(rises)
            check_every = max(
                check_every - max(int(SHORTER_BY * iterations), 1), max(int(SHORTEST_CHECK * iterations), 1)
            )
            until_look = check_every
    return is_fooled


def _look(network: Network, images: Tensor, identities: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, its gradient and whether the name is wrong, for each image."""
    images = images.detach().requires_grad_(True)
    logits = network(images)
    losses = loss(logits)
    (slope,) = torch.autograd.grad(losses.sum(), images)
    return losses.detach(), slope, logits.detach().argmax(1) != identities


def _where(rows: Tensor, chosen: Tensor, others: Tensor) -> Tensor:
    """Some rows of one tensor, the others of another. Shape: (B,) bool, (B, C, H, W) or (B, 1, 1, 1) twice, kept."""
    return torch.where(rows[:, None, None, None], chosen, others)


def towards(identities: Tensor, others: Tensor) -> Loss:
    """The targeted difference of logits ratio: how near each row is to be taken for one other class. Needs 4 classes.

    Shape: identities and others (B,) int64.

    Source: Croce and Hein, ICML 2020, section 4.
    """

    def loss(logits: Tensor) -> Tensor:
        highest = logits.sort(1).values
        spread = highest[:, -1] - (highest[:, -3] + highest[:, -4]) / 2
        difference = logits.gather(1, others[:, None]) - logits.gather(1, identities[:, None])
        return difference[:, 0] / (spread + 1e-12)

    return loss
