"""The reconstructions an attack works on, one row each, with random draws that no row shares with its batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workloads.core.checkpoints import State
from workloads.core.randomness import generator


@dataclass(frozen=True)
class Rows:
    """The identity and the restart number of each row, and the job's key.

    Every random draw of a row is derived from these three, so it does not depend on which rows share a batch.

    Shape: identities and restarts (B,) int64, on the CPU.
    """

    identities: Tensor
    restarts: Tensor
    key: str

    @staticmethod
    def of(identities: Tensor, restarts: int, *, key: str) -> Rows:
        """Every restart of every identity, those of an identity side by side. Shape: (I,) to I * restarts rows."""
        pairs = torch.cartesian_prod(identities, torch.arange(restarts)).view(-1, 2)
        return Rows(pairs[:, 0], pairs[:, 1], key)

    def __len__(self) -> int:
        return len(self.identities)

    def __getitem__(self, index: Tensor | slice) -> Rows:
        return replace(self, identities=self.identities[index], restarts=self.restarts[index])

    def repeated(self, count: int) -> Rows:
        """Each row `count` times, its copies side by side."""
        return self[torch.arange(len(self)).repeat_interleave(count)]

    def split(self, size: int) -> list[Rows]:
        """Chunks of `size` rows, the last one perhaps smaller."""
        return [self[slice(start, start + size)] for start in range(0, len(self), size)]

    def generators(self, *purpose: str | int, shared: bool = False) -> Iterator[torch.Generator]:
        """A fresh CPU generator per row; if `shared`, all of them give the same stream."""
        pairs = zip(self.identities.tolist(), self.restarts.tolist(), strict=True)
        return (generator(self.key, *purpose, *(() if shared else pair)) for pair in pairs)

    def normal(self, size: int, *purpose: str | int) -> Tensor:
        """Standard normal numbers. Shape: (B, size), float32, on the CPU."""
        return torch.stack([torch.randn(size, generator=draws) for draws in self.generators(*purpose)])


def select(state: State, rows: Tensor | slice) -> State:
    """The same rows of every tensor of a state."""
    return {name: select(value, rows) if isinstance(value, dict) else value[rows] for name, value in state.items()}


def place(target: State, rows: Tensor, part: State, *, total: int) -> State:
    """Write `part` into the given rows of `target`, in place; tensors that are missing begin with `total` zero rows."""
    for name, value in part.items():
        if isinstance(value, dict):
            target[name] = place(target.get(name, {}), rows, value, total=total)
        else:
            zeros = torch.zeros(total, *value.shape[1:], dtype=value.dtype)
            target.setdefault(name, zeros)[rows] = value.detach().cpu()
    return target
