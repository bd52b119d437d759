"""The reconstructions an attack works on, one row each, and the random numbers of a row."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from workloads.core.checkpoints import State
from workloads.core.randomness import Draws

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Rows:
    """The identity and the restart number of each row, and the job's key.

    Every random draw of a row is derived from these three, so it does not depend on which rows share a batch.

    Shape: identities and restarts (B,) int64, on the CPU.
    """

    identities: Tensor
    restarts: Tensor
    key: str
    device: torch.device = field(default=CPU, kw_only=True)
    """Where random numbers are made."""

    @staticmethod
    def of(identities: Tensor, restarts: int, *, key: str, device: torch.device = CPU) -> Rows:
        """Every restart of every identity, those of an identity side by side. Shape: (I,) to I * restarts rows."""
        pairs = torch.cartesian_prod(identities, torch.arange(restarts)).view(-1, 2)
        return Rows(pairs[:, 0], pairs[:, 1], key, device=device)

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

    def draws(self, *purpose: str | int, images: int = 1) -> Draws:
        """The random numbers of the rows for a purpose; with several images per row, of each image, side by side."""
        pairs = torch.stack((self.identities, self.restarts), 1).repeat_interleave(images, 0)
        image = torch.arange(images).repeat(len(self))
        draws = Draws(self.key, torch.cat((image[:, None], pairs), 1).to(self.device))
        return draws.named(*purpose)

    def normal(self, size: int, *purpose: str | int) -> Tensor:
        """Standard normal numbers. Shape: (B, size), float32, on the device."""
        return self.draws(*purpose).normal(size)


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
