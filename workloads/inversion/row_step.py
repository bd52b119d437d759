"""A step of many rows of which some are done: those stay as they are, and the device keeps account of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from workloads.core.checkpoints import State
from workloads.inversion.early_stop import EarlyStopConfig
from workloads.inversion.rows import Rows, unchanged_where
from workloads.inversion.step import Move, Step


@dataclass(frozen=True)
class RowStep:
    """A step after which each row may be done.

    Whether a row is done stands on the device, which the host would have to wait for. So rows that are done are
    computed along, and keep the state in which they were done, until the host looks and takes them out.
    """

    move: Move
    """The attack's step."""
    settled: Callable[[State], Tensor | None]
    """Rows that are done by the attack's rule, (B,) bool; None if it has none."""
    early_stop: EarlyStopConfig | None
    """Ends rows whose loss has settled."""

    def begin(self, search: State, rows: Rows) -> State:
        """The state before the first step: the attack's as `search`, and the step after which each row was done.

        Shape: `ended` (B,) int64, 0 for a row under way.
        """
        device = rows.identities.device
        watch = self.early_stop.begin(len(rows), device=device) if self.early_stop else {}
        return {"search": search, "ended": torch.zeros_like(rows.identities), "watch": watch}

    def __call__(self, state: State, rows: Rows, step: Step) -> tuple[State, Tensor]:
        """Move all rows and keep those as they were that are done."""
        search, losses = self.move(state["search"], rows, step)
        watch, done = state["watch"], self.settled(search)
        if self.early_stop:
            watch, flat = self.early_stop.watch(watch, losses, step.counter)
            done = flat if done is None else done | flat
        if done is None:
            return {**state, "search": search}, losses
        ended = state["ended"]
        return {
            "search": unchanged_where(ended > 0, state["search"], search),
            "ended": torch.where((ended == 0) & done, step.counter + 1, ended),
            "watch": watch,
        }, losses
