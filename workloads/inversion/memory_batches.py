"""How many rows go through the networks at once: as many as memory holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from workloads.core.memory import GIB, kept_for_backward

Result = TypeVar("Result")
SHARE = 0.5  # of a job's memory for what backpropagation keeps: its own buffers, torch and the networks need the rest


class MemoryBatches:
    """Splits work on rows into batches that fit in memory.

    On a GPU a batch that does not fit is halved and tried again. On a CPU, where asking for too much memory ends the
    process, the cost of a row is measured first and compared with the memory that the job was given.
    """

    def __init__(self, largest: int = 256, *, memory_gb: float = math.inf) -> None:
        self.largest = largest
        """Rows in the largest batch."""
        self.measured = math.isinf(memory_gb)
        """Whether the cost of a row is known, or memory is not limited."""
        self._budget = SHARE * memory_gb * GIB

    def run(self, compute: Callable[[slice], Result], rows: int) -> list[Result]:
        """Results of `compute` on batches that together cover `rows` rows, in order."""
        results: list[Result] = []
        start = 0
        while start < rows:
            batch = slice(start, min(start + self.largest, rows))
            try:
                results.append(compute(batch))
            except torch.OutOfMemoryError:
                if self.largest == 1:
                    raise
                self.largest = max((batch.stop - batch.start) // 2, 1)
                torch.cuda.empty_cache()
            else:
                start = batch.stop
        return results

    def measure(self, forward: Callable[[], Tensor], rows: int) -> None:
        """Set the largest batch from a forward pass of `rows` rows: from the bytes kept for its backward pass."""
        kept = sum(kept_for_backward(forward))
        self.largest = min(self.largest, max(int(self._budget * rows / max(kept, 1)), 1))
        self.measured = True
