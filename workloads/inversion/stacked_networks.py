"""Small networks, one per row with its own weights, run together by one batched matrix product per layer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from workloads.inversion.optimizers import Variables
from workloads.inversion.rows import Rows


def draw_layers(rows: Rows, sizes: Sequence[int], *purpose: str | int, last: float | None = None) -> Variables:
    """Weights of linear layers, uniform within 1 / sqrt(inputs) as torch draws them; those of the last within `last`.

    Shape: for layer l `<l>.weight` (B, sizes[l], sizes[l + 1]) and `<l>.bias` (B, 1, sizes[l + 1]).
    """
    weights: Variables = {}
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        bound = last if last is not None and layer == len(sizes) - 2 else 1 / math.sqrt(inputs)
        uniform = rows.draws(*purpose, layer).uniform((inputs + 1) * outputs)
        numbers = bound * (2 * uniform.unflatten(1, (inputs + 1, outputs)) - 1)
        # Contiguous, so that they are laid out as a checkpoint gives them back: other layouts round otherwise.
        weights[f"{layer}.weight"] = numbers[:, :-1].contiguous()
        weights[f"{layer}.bias"] = numbers[:, -1:].contiguous()
    return weights


def run_layers(weights: Variables, inputs: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """Linear layers with an activation between them. Shape: (B, N, first size) to (B, N, last size)."""
    layers = len(weights) // 2
    for layer in range(layers):
        inputs = inputs if layer == 0 else activation(inputs)
        inputs = torch.baddbmm(weights[f"{layer}.bias"], inputs, weights[f"{layer}.weight"])
    return inputs
