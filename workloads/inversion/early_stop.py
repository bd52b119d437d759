"""When the search of a row may end early: once its loss has settled."""

from __future__ import annotations

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from workloads.core.checkpoints import State
from workloads.core.config import FrozenConfig
from workloads.inversion.step import LOOK_EVERY


class EarlyStopConfig(FrozenConfig):
    """End a row whose mean loss over a window falls by less than a fraction of its fall so far.

    The fall so far is counted from the row's own first window, so the tolerance needs no unit.
    """

    window: PositiveInt = 50
    """Steps that the loss is averaged over."""
    tolerance: PositiveFloat = 0.02
    """Fraction of the fall so far that counts as settled. Larger ends rows earlier."""

    @property
    def revision(self) -> int | None:
        """2 where windows end between two looks of the host: rows leave later, and others' last bits change by that."""
        return 2 if self.window % LOOK_EVERY else None

    def begin(self, rows: int, *, device: torch.device) -> State:
        """Running figures of each row before the first step. Shape: (rows,) each."""
        return {name: torch.zeros(rows, device=device) for name in ("sum", "first", "previous")}

    def watch(self, memory: State, losses: Tensor, step: Tensor) -> tuple[State, Tensor]:
        """The figures after a step, counted from 0, and the rows that have settled by it.

        Shape: losses (B,), step () int64 to (B,) bool.
        """
        total = memory["sum"] + losses
        mean = total / self.window
        is_end, is_first = (step + 1) % self.window == 0, step + 1 == self.window
        settled = memory["previous"] - mean < self.tolerance * (memory["first"] - mean)
        figures = {
            "sum": torch.where(is_end, torch.zeros_like(total), total),
            "first": torch.where(is_first, mean, memory["first"]),
            "previous": torch.where(is_end, mean, memory["previous"]),
        }
        return figures, settled & is_end & ~is_first
