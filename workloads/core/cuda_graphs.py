"""CUDA graphs: work on a GPU that is recorded once, and repeated by one launch instead of hundreds."""

from __future__ import annotations

from collections.abc import Callable

import torch

Work = Callable[[], None]
STEPS_BEFORE_RECORDING = 3
"""Steps to compute before one is recorded: in the first ones libraries choose kernels and optimisers allocate."""


def record(work: Work, *, stream: torch.cuda.Stream | None = None) -> Work:
    """Record what `work` would do on the GPU, without doing it; returns a function that does it.

    The graph repeats the same operations on the same memory, so whatever changes has to lie in tensors that are written
    before each repetition. It has memory of its own: what earlier work has left over is given back first.

    Args:
        stream: the stream to record on; one of its own if None.

    Raises:
        RuntimeError: if `work` does what cannot be recorded, such as to read a number.
    """
    torch.cuda.empty_cache()
    graph = torch.cuda.CUDAGraph()
    # Other threads of the process, such as one that reports, may use CUDA meanwhile.
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        work()
    return graph.replay
