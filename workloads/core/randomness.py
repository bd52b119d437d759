"""Named random numbers: every draw follows from a job's key and a purpose, whatever was drawn before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workloads.core import philox


def generator(key: str, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Make the generator for one purpose within one job, at the start of its stream.

    The same key and purpose always give the same stream, so a resumed job needs no stored generator states and the
    order of jobs cannot matter. The streams of a GPU are others than those of a CPU.
    """
    return torch.Generator(device).manual_seed(_seed(key, purpose))


def rewind(draws: torch.Generator, key: str, *purpose: str | int) -> torch.Generator:
    """Put a generator where `generator` would start a new one, which costs less. Returns it."""
    return draws.manual_seed(_seed(key, purpose))


@contextmanager
def global_draws(key: str, *purpose: str | int, device: torch.device) -> Iterator[None]:
    """While the block runs, torch's global generators give the stream of a purpose; afterwards they go on as before.

    Layers such as dropout draw from these, and take no others.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(_seed(key, purpose))
        yield


@dataclass(frozen=True)
class Draws:
    """Random numbers for a batch of rows, each a function of a name, a step, the row and a position alone.

    The same call gives the same numbers again, on any device, whichever rows share the batch; the first numbers of a
    longer draw are those of a shorter one. Numbers for another purpose come from `named`, for a step from `at`.
    """

    name: str
    rows: Tensor
    """Identifier of each row, on the device that numbers are made on. Shape: (B, 3) int64 in [0, 2^32)."""
    step: Tensor | None = None
    """Number of a step, counted from 0, on that device. Shape: () int64."""

    def named(self, *purpose: str | int) -> Draws:
        """Independent numbers for a purpose within this one."""
        return replace(self, name=_name(self.name, purpose))

    def at(self, step: Tensor) -> Draws:
        """The numbers of a step; none of them are those of another step, or of none."""
        return replace(self, step=step)

    def shared(self) -> Draws:
        """The same numbers for all rows."""
        return replace(self, rows=torch.zeros_like(self.rows))

    def uniform(self, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Uniform numbers in [0, 1). Shape: (B, size)."""
        return philox.uniform(self._words(size), dtype)

    def normal(self, size: int) -> Tensor:
        """Standard normal numbers, float32. Shape: (B, size)."""
        return philox.normal(self._words(size + size % 2))[:, :size]

    def integers(self, bound: int | Tensor, size: int) -> Tensor:
        """Integers in [0, bound), int64. Shape: (B, size)."""
        return philox.integers(self._words(size), bound)

    def _words(self, size: int) -> Tensor:
        """Shape: (B, size), int64 in [0, 2^32)."""
        blocks = torch.arange(-(-size // 4), device=self.rows.device)[None]
        row1, row2, row3 = self.rows[:, :, None].unbind(1)
        key1, key2 = philox.key_of(self.name)
        # Names differ in both words and steps in one. The step is a tensor: what is recorded once can be repeated.
        key = (key1, key2 if self.step is None else (key2 + 1 + self.step) & philox.MASK)
        words = philox.philox((blocks, row1, row2, row3), key)
        return words.flatten(1)[:, :size]


def _seed(key: str, purpose: tuple[str | int, ...]) -> int:
    return int.from_bytes(hashlib.sha256(_name(key, purpose).encode()).digest()[:8], "big") >> 1  # torch takes 63 bits


def _name(key: str, purpose: tuple[str | int, ...]) -> str:
    return "/".join([key, *map(str, purpose)])
