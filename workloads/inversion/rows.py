"""The reconstructions an attack works on, one row each, and draws that do not depend on which rows share a batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workloads.core.checkpoints import State
from workloads.core.randomness import generator


@dataclass(frozen=True)
class Rows:
    """Whom each row aims at and which of its tries it is; a row's draws are functions of these and the job's key.

    Shape: identities and restarts (B,) int64, on the CPU.
    """

    identities: Tensor
    restarts: Tensor
    key: str

    @staticmethod
    def of(identities: Tensor, restarts: int, *, key: str) -> Rows:
        """Every restart of every identity. Shape: (I,) to I * restarts rows, those of an identity together."""
        pairs = torch.cartesian_prod(identities, torch.arange(restarts)).view(-1, 2)
        return Rows(pairs[:, 0], pairs[:, 1], key)

    def __len__(self) -> int:
        return len(self.identities)

    def __getitem__(self, index: Tensor | slice) -> Rows:
        return replace(self, identities=self.identities[index], restarts=self.restarts[index])

    def repeated(self, count: int) -> Rows:
        """Each row so many times, one after the other."""
        return self[torch.arange(len(self)).repeat_interleave(count)]

    def split(self, size: int) -> list[Rows]:
        return [self[slice(start, start + size)] for start in range(0, len(self), size)]

    def generators(self, *purpose: str | int, alike: bool = False) -> Iterator[torch.Generator]:
        """A fresh generator for each row, on the CPU; where `alike`, all of them begin at the same place."""
        pairs = zip(self.identities.tolist(), self.restarts.tolist(), strict=True)
        return (generator(self.key, *purpose, *(() if alike else pair)) for pair in pairs)

    def normal(self, size: int, *purpose: str | int) -> Tensor:
        """Standard normal numbers. Shape: (B, size), float32, on the CPU."""
        return torch.stack([torch.randn(size, generator=own) for own in self.generators(*purpose)])


def select(state: State, rows: Tensor | slice) -> State:
    """Some rows of every tensor of a state."""
    return {name: select(own, rows) if isinstance(own, dict) else own[rows] for name, own in state.items()}


def place(whole: State, rows: Tensor, part: State, *, of: int) -> State:
    """`whole` with `part` at these of its rows, in place; begun with `of` rows where it is empty yet."""
    for name, own in part.items():
        if isinstance(own, dict):
            whole[name] = place(whole.get(name, {}), rows, own, of=of)
        else:
            whole.setdefault(name, torch.zeros(of, *own.shape[1:], dtype=own.dtype))[rows] = own.detach().cpu()
    return whole
