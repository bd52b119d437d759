"""The reconstructions an attack works on, one row each, and the random numbers of a row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from workloads.core.checkpoints import State
from workloads.core.randomness import Draws

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Rows:
    """The identity and the restart number of each row, and the job's key.

    Every random draw of a row is derived from these three, so it does not depend on which rows share a batch.

    Shape: identities and restarts (B,) int64, on the device that rows are searched on, where random numbers are made.
    """

    identities: Tensor
    restarts: Tensor
    key: str

    @staticmethod
    def of(identities: Tensor, restarts: int, *, key: str, device: torch.device = CPU) -> Rows:
        """Every restart of every identity, those of an identity side by side. Shape: (I,) to I * restarts rows."""
        pairs = torch.cartesian_prod(identities, torch.arange(restarts)).view(-1, 2).to(device)
        return Rows(pairs[:, 0], pairs[:, 1], key)

    def __len__(self) -> int:
        return len(self.identities)

    def __getitem__(self, index: Tensor | slice) -> Rows:
        return replace(self, identities=self.identities[index], restarts=self.restarts[index])

    def repeated(self, count: int) -> Rows:
        """Each row `count` times, its copies side by side."""
        return replace(
            self,
            identities=self.identities.repeat_interleave(count),
            restarts=self.restarts.repeat_interleave(count),
        )

    def split(self, size: int) -> list[Rows]:
        """Chunks of `size` rows, the last one perhaps smaller."""
        return [self[slice(start, start + size)] for start in range(0, len(self), size)]

    def draws(self, *purpose: str | int, images: int = 1) -> Draws:
        """The random numbers of the rows for a purpose; with several images per row, of each image, side by side."""
        image = torch.arange(images, device=self.identities.device).repeat(len(self))
        rows = self.repeated(images) if images > 1 else self
        return Draws(self.key, torch.stack((image, rows.identities, rows.restarts), 1)).named(*purpose)

    def normal(self, size: int, *purpose: str | int, step: Tensor | None = None) -> Tensor:
        """Standard normal numbers, those of a step if there is one. Shape: (B, size), float32, on the device."""
        draws = self.draws(*purpose)
        return (draws if step is None else draws.at(step)).normal(size)


def select(state: State, rows: Tensor | slice) -> State:
    """The same rows of every tensor of a state."""
    return {name: select(value, rows) if isinstance(value, dict) else value[rows] for name, value in state.items()}


def copied(state: State) -> State:
    """A copy that shares no memory."""
    return {name: copied(value) if isinstance(value, dict) else value.clone() for name, value in state.items()}


def overwrite(target: State, source: State) -> None:
    """Write every tensor of `source` into that of `target`, in place; a tensor that is in both stays."""
    for name, value in source.items():
        if isinstance(value, dict):
            overwrite(target[name], value)
        elif value is not target[name]:
            target[name].copy_(value)


def unchanged_where(rows: Tensor, before: State, after: State) -> State:
    """The state `after`, but `before` for some rows; a tensor that is in both stays. Shape: rows (B,) bool."""

    def chosen(old: Any, new: Any) -> Any:
        if isinstance(new, dict):
            return unchanged_where(rows, old, new)
        return new if new is old else torch.where(rows.view(-1, *(1,) * (new.ndim - 1)), old, new)

    return {name: chosen(before[name], value) for name, value in after.items()}


def place(target: State, rows: Tensor, part: State, *, total: int) -> State:
    """Write `part` into the given rows of `target`, in place; tensors that are missing begin with `total` zero rows."""
    for name, value in part.items():
        if isinstance(value, dict):
            target[name] = place(target.get(name, {}), rows, value, total=total)
        else:
            zeros = torch.zeros(total, *value.shape[1:], dtype=value.dtype)
            target.setdefault(name, zeros)[rows] = value.detach().cpu()
    return target
