"""What a job asks for: what the spec sets, else what jobs of its shape were measured to take, else an estimate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.placement.nodes import Gpu, Node, Request, rounded_down

HEADROOM = 1.2
"""A job asks for this much more than jobs of its shape were measured to take."""
CONTEXT_GB = 0.6
"""GPU memory of a process beyond its tensors: CUDA itself and the code of its kernels."""
PARTS = (8, 6, 4, 3, 2, 1)
"""A share is one of so many equal parts of a GPU: shares that fill it exactly, and few kinds of workers to start."""
DEFAULT_MEMORY_GB = 1.0
"""Main memory of a job whose spec sets none, unless one of its shape took more. On CPUs it also decides how many rows
an attack computes at once, so it is the same on every machine."""
MEMORY_STEP_GB = 1.0
"""Main memory beyond the default is asked for in steps, so that jobs of about the same size share workers."""


@dataclass(frozen=True)
class Needs:
    """What a spec sets of a job's resources, with the meaning of `Request`, None where it leaves it to the machine; and
    whether the job can use a GPU."""

    cpus: int | None = None
    gpus: float | None = None
    memory_gb: float | None = None
    gpu_memory_gb: float | None = None
    uses_gpu: bool = True
    """Whether jobs of its kind compute on a GPU if they have one: the planner sets it, not the spec."""
    timeout_s: float | None = None
    """Seconds that it may take, from its start; None if there is no limit."""

    @property
    def batch_memory_gb(self) -> float:
        """Memory that a job on a CPU splits its work by, which changes last bits: never one that was measured."""
        return DEFAULT_MEMORY_GB if self.memory_gb is None else self.memory_gb


@dataclass(frozen=True)
class Usage:
    """The most that a finished job was seen to take, as its manifest says; None for what could not be measured."""

    memory_gb: float | None = None
    """Main memory of its process, in GiB."""
    gpu_memory_gb: float | None = None
    """Memory that torch reserved on its GPU, in GiB."""
    gpu_busy: float | None = None
    """Part of its time in which its GPU computed, for this job or another, in [0, 1]."""

    @staticmethod
    def of(facts: Mapping[str, Any]) -> Usage:
        """Read the facts of a manifest; those of older versions say nothing."""
        usage = facts.get("usage", {})
        return Usage(usage.get("memory_gb"), usage.get("gpu_memory_gb"), usage.get("gpu_busy"))


@dataclass(frozen=True)
class Sized:
    """What a job asks for, and why."""

    request: Request
    reason: str
    """A phrase for people."""
    unused_gpu: str = ""
    """Why it asks for no GPU though there are some, in a sentence; empty if there are none, the spec decides,
    or it has no use for one."""


def size(needs: Needs, nodes: Sequence[Node], *, usage: Usage | None = None, estimate_gb: float | None = None) -> Sized:
    """What a job asks for on these nodes.

    Args:
        usage: what the last finished job of the same shape took; None if there was none.
        estimate_gb: GPU memory of its tensors, worked out; used while nothing is measured.
    """
    usage, unused = usage or Usage(), _unused_gpu(needs, nodes)
    share, gpu_memory_gb, reason = _gpu(needs, nodes, usage, estimate_gb)
    cpus = needs.cpus or (_cpus_beside_a_gpu(nodes) if share else 1)
    memory_gb = needs.memory_gb or _memory_gb(nodes, usage.memory_gb)
    return Sized(Request(cpus, share, memory_gb, gpu_memory_gb), unused or reason, unused)


def whole_gpu(request: Request) -> Request:
    """The request of a job that gets a GPU for itself."""
    return Request(request.cpus, 1.0, request.memory_gb)


def _gpu(needs: Needs, nodes: Sequence[Node], usage: Usage, estimate_gb: float | None) -> tuple[float, float, str]:
    """Share of a GPU, memory on it in GiB, and why."""
    if needs.gpus is not None:
        return needs.gpus, needs.gpu_memory_gb or 0.0, "GPUs set by the spec"
    if not needs.uses_gpu:
        return 0.0, 0.0, "nothing in it is computed on a GPU"
    usable = _usable_gpus(nodes)
    if not usable:
        return 0.0, 0.0, "no GPU"
    memories = [gpu.memory_gb for gpu in usable if gpu.memory_gb is not None]
    if not memories:
        return 1.0, 0.0, "the memory of the GPUs is unknown, so none is shared"
    smallest = min(memories)
    memory_gb, reason = _gpu_memory_gb(needs, usage, estimate_gb)
    if memory_gb is None or memory_gb > smallest:
        return 1.0, needs.gpu_memory_gb or 0.0, reason
    parts = next(parts for parts in PARTS if memory_gb <= smallest / parts)
    return rounded_down(1 / parts), needs.gpu_memory_gb or smallest / parts, reason


def _usable_gpus(nodes: Sequence[Node]) -> list[Gpu]:
    return [gpu for node in nodes if not node.without_cuda for gpu in node.gpus]


def _unused_gpu(needs: Needs, nodes: Sequence[Node]) -> str:
    """Why a job whose spec leaves it open asks for none of the GPUs that there are; empty if it has no use for them."""
    if needs.gpus is not None or not needs.uses_gpu or _usable_gpus(nodes):
        return ""
    return next((node.without_cuda for node in nodes if node.without_cuda), "")


def _gpu_memory_gb(needs: Needs, usage: Usage, estimate_gb: float | None) -> tuple[float | None, str]:
    """GPU memory that a job may need in GiB, CUDA included, and where the number is from; None if nothing is known."""
    if needs.gpu_memory_gb is not None:
        return needs.gpu_memory_gb, "GPU memory set by the spec"
    if usage.gpu_memory_gb is not None:
        measured = f"{HEADROOM:g} x {usage.gpu_memory_gb:.2g} GiB measured"
        return HEADROOM * usage.gpu_memory_gb + CONTEXT_GB, measured
    if estimate_gb is not None:
        return estimate_gb + CONTEXT_GB, f"{estimate_gb:.2g} GiB estimated, as none of its shape has finished"
    return None, "its memory cannot be estimated, and none of its shape has finished"


def _cpus_beside_a_gpu(nodes: Sequence[Node]) -> int:
    """CPUs of a job with a share of a GPU: as many as there are if the most jobs share each GPU.

    It follows from the machine alone, since threads change last bits and shares follow from what was measured before.
    """
    beside = min((node.cpus / len(node.gpus) for node in nodes if node.gpus), default=0)
    return max(int(beside) // max(PARTS), 1)


def _memory_gb(nodes: Sequence[Node], measured_gb: float | None) -> float:
    """Main memory to ask for, in GiB: never more than the largest node has, as it was enough before."""
    needed = HEADROOM * (measured_gb or 0.0)
    if needed <= DEFAULT_MEMORY_GB:
        return DEFAULT_MEMORY_GB
    steps = math.ceil(needed / MEMORY_STEP_GB) * MEMORY_STEP_GB
    return min(steps, max((node.memory_gb for node in nodes), default=steps))
