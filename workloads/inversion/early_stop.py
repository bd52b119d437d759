"""When the search of a row may end early: its loss no longer falls."""

from __future__ import annotations

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from workloads.core.checkpoints import State
from workloads.core.config import FrozenConfig


class ConvergedConfig(FrozenConfig):
    """A row retires when its loss, averaged over a window of steps, falls by less than a part of all it has fallen.

    Losses are compared with the row's own fall since its first window, so the rule needs no scale of its own.
    """

    window: PositiveInt = 50
    tolerance: PositiveFloat = 0.02

    def begin(self, rows: int) -> State:
        """What is remembered: one number a row each."""
        return {name: torch.zeros(rows) for name in ("sum", "first", "previous")}

    def watch(self, memory: State, losses: Tensor, step: int) -> Tensor:
        """Which rows have settled after a step, counted from 0; `memory` is brought up to date in place.

        Shape: losses (B,) to (B,) bool.
        """
        memory["sum"] += losses.cpu()
        if (step + 1) % self.window:
            return torch.zeros(len(losses), dtype=torch.bool)
        mean, windows = memory["sum"] / self.window, (step + 1) // self.window
        memory["sum"] = torch.zeros_like(mean)
        settled = memory["previous"] - mean < self.tolerance * (memory["first"] - mean)
        if windows == 1:
            memory["first"], settled = mean, torch.zeros_like(settled)
        memory["previous"] = mean
        return settled
