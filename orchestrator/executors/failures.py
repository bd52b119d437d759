"""Why a job failed, and how it is tried again: the rules, without what runs it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from orchestrator.errors import DamagedArtifact, JobTimeout
from orchestrator.placement.nodes import Request
from orchestrator.placement.sizing import Sized, whole_gpu
from orchestrator.store.room import is_want_of_room

Cause = Literal["code", "memory", "gpu memory", "lost worker", "placement", "timeout", "storage", "elsewhere"]
MOST_LOST_WORKERS = 5
"""How often a job may lose its worker before the job itself is taken for the cause."""
MOST_UNSTORED = 20
"""How often the results of a job may find no room before the job itself is taken for the cause."""
GPU_MEMORY_MESSAGES = ("CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""How CUDA and its libraries say in a RuntimeError what torch raises OutOfMemoryError for."""


@dataclass(frozen=True)
class Failure:
    """Why a try of a job failed."""

    cause: Cause
    message: str
    damaged_input: DamagedArtifact | None = None
    """The input that is to blame, if one is damaged."""


def failure_of(error: BaseException) -> Failure:
    """What the code of a job raised, as a failure."""
    damage = error if isinstance(error, DamagedArtifact) else None
    return Failure(_cause_of(error), f"{type(error).__name__}: {error}", damage)


def _cause_of(error: BaseException) -> Cause:
    """Time, GPU memory, main memory, or the code itself. Not every process imports torch: names are compared."""
    if isinstance(error, JobTimeout):
        return "timeout"
    if is_want_of_room(error):
        return "storage"
    if any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return "gpu memory"
    if isinstance(error, RuntimeError) and any(message in str(error) for message in GPU_MEMORY_MESSAGES):
        return "gpu memory"
    return "memory" if isinstance(error, MemoryError) else "code"


@dataclass(frozen=True)
class Attempt:
    """One try of a job: what it asks for, and what has gone wrong before."""

    request: Request
    first: Sized
    """What its first try asked for."""
    lost_workers: int = 0
    unstored: int = 0
    """How often its results could not be written."""

    @staticmethod
    def begin(sized: Sized) -> Attempt:
        """The first try."""
        return Attempt(sized.request, sized)

    def next_after(self, cause: Cause) -> Attempt | None:
        """The next try after this one failed; None if there is no point in another.

        A lost worker, or a store that takes nothing for a while, is not the job's fault. A job without enough main
        memory runs once more with twice as much; one without enough GPU memory once more, alone on a GPU. Code that
        failed would fail again.
        """
        if cause == "lost worker" and self.lost_workers + 1 < MOST_LOST_WORKERS:
            return replace(self, lost_workers=self.lost_workers + 1)
        if cause == "storage" and self.unstored + 1 < MOST_UNSTORED:
            return replace(self, unstored=self.unstored + 1)
        if cause == "memory" and self.request.memory_gb == self.first.request.memory_gb:
            return replace(self, request=replace(self.request, memory_gb=self.request.memory_gb * 2))
        if cause == "gpu memory" and 0 < self.request.gpus < 1:
            return replace(self, request=whole_gpu(self.request))
        return None

    def explain(self, failure: Failure) -> str:
        """The error of a job that fails for good, with what it asked for where that was too little."""
        if failure.cause == "memory":
            return f"{failure.message} (it asked for {self.request.memory_gb:g} GiB of main memory)"
        if failure.cause == "gpu memory":
            shares = self.first.request.gpus < 1
            shared = f"with {_in_words(self.first.request)} of a shared one, then " if shares else ""
            return f"{failure.message} (it ran {shared}alone on a GPU: lower its batch size, or take a larger GPU)"
        return failure.message


def _in_words(share: Request) -> str:
    return f"{share.gpu_memory_gb:.3g} GiB" if share.gpu_memory_gb else f"{share.gpus:g}"
