"""Small networks with weights of their own for each row: one batched matrix product a layer runs them all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from workloads.inversion.optimizers import Variables
from workloads.inversion.rows import Rows


def draw_layers(
    rows: Rows, sizes: Sequence[int], *purpose: str | int, device: torch.device, last: float | None = None
) -> Variables:
    """Weights of linear layers, each uniform within 1 / sqrt(inputs) as torch draws them; the last within `last`.

    Shape: of layer l `<l>.weight` (B, sizes[l], sizes[l + 1]) and `<l>.bias` (B, 1, sizes[l + 1]).
    """
    drawn: Variables = {}
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        bound = last if last is not None and layer == len(sizes) - 2 else 1 / math.sqrt(inputs)
        unit = [torch.rand(inputs + 1, outputs, generator=own) for own in rows.generators(*purpose, layer)]
        # Stacked apart, so that they are laid out as a checkpoint gives them back: other layouts round otherwise.
        drawn[f"{layer}.weight"] = bound * (2 * torch.stack([own[:-1] for own in unit]) - 1).to(device)
        drawn[f"{layer}.bias"] = bound * (2 * torch.stack([own[-1:] for own in unit]) - 1).to(device)
    return drawn


def run_layers(weights: Variables, inputs: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """Linear layers with an activation between them. Shape: (B, N, first size) to (B, N, last size)."""
    layers = len(weights) // 2
    for layer in range(layers):
        inputs = inputs if layer == 0 else activation(inputs)
        inputs = torch.baddbmm(weights[f"{layer}.bias"], inputs, weights[f"{layer}.weight"])
    return inputs
