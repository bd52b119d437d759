"""What tells one step of a search from another, as numbers on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workloads.core.checkpoints import State
from workloads.inversion.rows import Rows

LOOK_EVERY = 25  # steps between two looks of the host at the device, which it waits for


@dataclass(frozen=True)
class Step:
    """Everything by which a step differs from others of its phase, on the device.

    A step is recorded once and repeated with other numbers in the same tensors, so what an attack computes in it may
    depend on its phase, but on no other Python number that changes from step to step.
    """

    counter: Tensor
    """Its number, counted from 0. Shape: () int64."""
    rates: tuple[Tensor, ...] = ()
    """What the attack's `rates` says of it, such as learning rates. Shape: () float64 each."""
    phase: int = 0
    """Steps of one phase run the same operations on tensors of the same shapes."""

    @staticmethod
    def at(number: int, *, rates: Sequence[float] = (), phase: int = 0, device: torch.device) -> Step:
        """A step by its number. Its tensors are filled on the device, where a copy would have to be waited for."""
        return Step(
            torch.full((), number, dtype=torch.int64, device=device),
            tuple(torch.full((), rate, dtype=torch.float64, device=device) for rate in rates),
            phase,
        )


Move = Callable[[State, Rows, Step], tuple[State, Tensor]]
"""The state of some rows, the rows and a step, to their state after it and a loss per row that should fall, (B,).

The tensors of the new state are new ones, or those of the old state under the same name."""
