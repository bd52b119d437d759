"""When the search of a row may end early: once its loss has settled."""

from __future__ import annotations

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from workloads.core.checkpoints import State
from workloads.core.config import FrozenConfig


class EarlyStopConfig(FrozenConfig):
    """End a row whose mean loss over a window falls by less than a fraction of its fall so far.

    The fall so far is counted from the row's own first window, so the tolerance needs no unit.
    """

    window: PositiveInt = 50
    """Steps that the loss is averaged over."""
    tolerance: PositiveFloat = 0.02
    """Fraction of the fall so far that counts as settled. Larger ends rows earlier."""

    def begin(self, rows: int) -> State:
        """Running figures of each row before the first step. Shape: (rows,) each."""
        return {name: torch.zeros(rows) for name in ("sum", "first", "previous")}

    def watch(self, memory: State, losses: Tensor, step: int) -> Tensor:
        """Rows that have settled after a step, counted from 0; updates `memory` in place.

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
