"""How many rows go through the networks at once: as many as memory holds, so that no batch is ever too large."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
SHARE = 0.5  # of a job's memory for what backpropagation keeps: its own buffers, torch and the networks need the rest
GIB = 2**30


class Parts:
    """Splits work on rows. On a GPU a part that is too large is halved and tried again; on a CPU, where asking for too
    much ends the process, a row is measured first and held against what the job was given.
    """

    def __init__(self, most: int = 256, *, memory_gb: float = math.inf) -> None:
        self.most = most
        self.measured = math.isinf(memory_gb)
        self._budget = SHARE * memory_gb * GIB

    def run(self, compute: Callable[[slice], T], rows: int) -> list[T]:
        """`compute` on parts of so many rows, in order."""
        made: list[T] = []
        start = 0
        while start < rows:
            part = slice(start, min(start + self.most, rows))
            try:
                made.append(compute(part))
            except torch.OutOfMemoryError:
                if self.most == 1:
                    raise
                self.most = max((part.stop - part.start) // 2, 1)
                torch.cuda.empty_cache()
            else:
                start = part.stop
        return made

    def measure(self, forward: Callable[[], Tensor], rows: int) -> None:
        """Learn from a forward pass of so many rows how many fit: by the bytes kept for its backward pass."""
        kept: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            if not tensor.is_leaf:  # weights are there once, whatever the rows
                storage = tensor.untyped_storage()
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            forward()
        self.most = min(self.most, max(int(self._budget * rows / max(sum(kept.values()), 1)), 1))
        self.measured = True
