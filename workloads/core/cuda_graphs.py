"""CUDA graphs: work on a GPU that is recorded once, and repeated by one launch instead of hundreds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch

Work = Callable[[], None]
STEPS_BEFORE_RECORDING = 3
"""Steps to compute before one is recorded: in the first ones libraries choose kernels and optimisers allocate."""


class Recorder(Protocol):
    """Records work on the device."""

    def beside(self) -> AbstractContextManager[None]:
        """A block for work before it is recorded, its recording and its repetitions, in step with the caller's work."""

    def record(self, work: Work, *, draws: Sequence[torch.Generator] = ()) -> Work:
        """Record what `work` would do on the device, without doing it; returns a function that does it.

        The same operations are repeated on the same memory, so whatever changes has to lie in tensors that are written
        before each repetition.

        Args:
            draws: generators that `work` draws from. A repetition draws from where they stand, as `work` would.

        Raises:
            RuntimeError: if `work` does what cannot be recorded, such as to read a number.
        """


class CudaGraphs(Recorder):
    """Records CUDA graphs, each with memory of its own: what earlier work has left over is given back first.

    All is done on one stream, since gradients are accumulated on the stream that a network first ran on.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Run on this stream what the block asks for: after what the caller has asked for, before what it asks next."""
        caller = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(caller)
        with torch.cuda.stream(self._stream):
            yield
        caller.wait_stream(self._stream)

    def record(self, work: Work, *, draws: Sequence[torch.Generator] = ()) -> Work:
        """Record a graph."""
        torch.cuda.empty_cache()
        graph = torch.cuda.CUDAGraph()
        for generator in draws:
            graph.register_generator_state(generator)
        # Other threads of the process, such as one that reports, may use CUDA meanwhile.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            work()
        return graph.replay
