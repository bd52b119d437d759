"""Which node takes a job, from what the job needs and what the nodes have, or why none can. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

SHARES = 10_000
"""Ray counts parts of a GPU in ten-thousandths; rounded down to them, equal parts of a GPU fit on it side by side."""


@dataclass(frozen=True)
class Request:
    """What one job occupies while it runs."""

    cpus: int = 1
    """CPU cores, and torch threads."""
    gpus: float = 0.0
    """GPUs; a fraction shares one with other jobs."""
    memory_gb: float = 1.0
    """Main memory in GiB."""
    gpu_memory_gb: float = 0.0
    """Memory of each of its GPUs in GiB; 0 if its share alone says how much it may take."""


@dataclass(frozen=True)
class Gpu:
    """A GPU with its memory, and how much of it is free."""

    memory_gb: float | None = None
    """Its memory in GiB; None if that is unknown, and jobs share it by `Request.gpus` alone."""
    name: str = ""
    """Product name, such as 'NVIDIA H100 80GB HBM3'."""
    free: float = 1.0
    """The part that no job holds, in [0, 1]."""

    def share_of(self, request: Request) -> float:
        """The part of this GPU that a job holds: its share, or more if its memory is more; 0 if it needs none.

        Since no share is smaller than that of the memory, jobs that share a GPU never ask for more than its memory.
        """
        if not request.gpus:
            return 0.0
        by_memory = request.gpu_memory_gb / self.memory_gb if self.memory_gb else 0.0
        return max(min(request.gpus, 1.0), rounded_down(by_memory))


@dataclass(frozen=True)
class Node:
    """A machine with what it has, or with what is left of it."""

    id: str
    cpus: float
    gpus: tuple[Gpu, ...]
    memory_gb: float
    host: str = ""
    """Name of the machine."""
    without_cuda: str = ""
    """Why torch cannot compute on this node's GPUs; empty if it can, or there are none."""
    mps: bool = False
    """Whether a daemon of NVIDIA's multi-process service runs here, so that jobs on one GPU compute side by side."""

    def fits(self, request: Request) -> bool:
        """Whether the request fits on this node."""
        return (
            self.cpus >= request.cpus
            and self.memory_gb >= request.memory_gb
            and (request.gpus == 0 or self.gpus_for(request) is not None)
        )

    def without(self, request: Request, gpus: Sequence[int] | None = None) -> Node:
        """What is left of this node beside the request; `gpus` are the indices of those it holds, if it runs."""
        taken = self.gpus_for(request) or () if gpus is None else gpus
        left = tuple(
            replace(gpu, free=round(gpu.free - gpu.share_of(request), 6)) if index in taken else gpu
            for index, gpu in enumerate(self.gpus)
        )
        cpus, memory_gb = round(self.cpus - request.cpus, 6), self.memory_gb - request.memory_gb
        return replace(self, cpus=cpus, gpus=left, memory_gb=memory_gb)

    def gpus_for(self, request: Request) -> tuple[int, ...] | None:
        """Which GPUs a request takes: the fullest that has room for a fraction, as Ray does; whole free ones for more.

        None if there are not enough.
        """
        count = math.ceil(request.gpus)
        room = sorted((gpu.free, index) for index, gpu in enumerate(self.gpus) if gpu.share_of(request) <= gpu.free)
        return tuple(index for _, index in room[:count]) if len(room) >= count else None


def rounded_down(share: float) -> float:
    """The share of a GPU as Ray counts it."""
    return math.floor(share * SHARES) / SHARES


def place(request: Request, free: Sequence[Node]) -> Node | None:
    """The node that takes the request: of those with room, the one with the least, so that large jobs still fit."""
    able = [node for node in free if node.fits(request)]
    return min(able, key=lambda node: (sum(gpu.free for gpu in node.gpus), node.cpus, node.id), default=None)


def shortage(request: Request, free: Sequence[Node]) -> str:
    """What keeps a request waiting, in words: what is short on the node that has the most CPUs left."""
    if not free:
        return "waits for a node"
    node = max(free, key=lambda node: (node.cpus, node.memory_gb))
    gpus_left = sum(gpu.free for gpu in node.gpus)
    short = [
        f"{needed:g} {name}, {left:.3g} free"
        for name, needed, left in (
            ("CPU", request.cpus, node.cpus),
            ("GiB of memory", request.memory_gb, node.memory_gb),
            ("GPU", request.gpus, gpus_left),
        )
        if needed > left
    ]
    if not short and request.gpus and node.gpus_for(request) is None:
        short = [f"{request.gpus:g} GPU with {request.gpu_memory_gb:g} GiB each"]
    return f"waits for {'; '.join(short)} on {node.host or node.id[:12]}" if short else "waits for a worker"


def why_not(request: Request, nodes: Sequence[Node]) -> Iterator[tuple[str, str]]:
    """Each resource that keeps a request from every node, even from an empty one, with the reason."""
    if any(node.fits(request) for node in nodes):
        return
    memories = [gpu.memory_gb for node in nodes for gpu in node.gpus]
    most = {
        "cpus": max((node.cpus for node in nodes), default=0),
        "gpus": max((len(node.gpus) for node in nodes), default=0),
        "memory_gb": max((node.memory_gb for node in nodes), default=0),
        "gpu_memory_gb": max((math.inf if memory is None else memory for memory in memories), default=math.inf),
    }
    needs = {name: getattr(request, name) for name in most}
    short = [name for name in needs if needs[name] > most[name]]
    for name in short or ["cpus"]:
        largest = f"the largest of {len(nodes)} node{'s' * (len(nodes) != 1)} has {most[name]:g}"
        together = "" if short else " together with the GPUs and memory asked for"
        yield name, f"needs {needs[name]:g}, but {largest}{together}: lower it or add a node."
