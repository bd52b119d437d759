"""Which node takes a job, from what the job needs and what the nodes have, or why none can. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Request:
    """What one job occupies while it runs."""

    cpus: int = 1
    """CPU cores, and torch threads."""
    gpus: float = 0.0
    """GPUs; a fraction shares one with other jobs."""
    memory_gb: float = 1.0


@dataclass(frozen=True)
class Node:
    """A machine with what it has, or with what is left of it."""

    id: str
    cpus: float
    gpus: tuple[float, ...]
    """What is left of each GPU, 1 for a free one."""
    memory_gb: float

    def fits(self, request: Request) -> bool:
        """Whether the request fits on this node."""
        return (
            self.cpus >= request.cpus
            and self.memory_gb >= request.memory_gb
            and (request.gpus == 0 or self._gpus_for(request) is not None)
        )

    def without(self, request: Request) -> Node:
        """What is left of this node beside the request."""
        gpus = list(self.gpus)
        for index in self._gpus_for(request) or ():
            gpus[index] = round(gpus[index] - min(request.gpus, 1), 6)
        cpus, memory_gb = round(self.cpus - request.cpus, 6), self.memory_gb - request.memory_gb
        return replace(self, cpus=cpus, gpus=tuple(gpus), memory_gb=memory_gb)

    def _gpus_for(self, request: Request) -> tuple[int, ...] | None:
        """Which GPUs a request takes: the fullest that still has room for a fraction, whole free ones for more."""
        if request.gpus == 0:
            return ()
        share, count = (request.gpus, 1) if request.gpus < 1 else (1.0, int(request.gpus))
        room = sorted((left, index) for index, left in enumerate(self.gpus) if left >= share - 1e-9)
        return tuple(index for _, index in room[:count]) if len(room) >= count else None


def place(request: Request, free: Sequence[Node]) -> Node | None:
    """The node that takes the request: of those with room, the one with the least, so that large jobs still fit."""
    able = [node for node in free if node.fits(request)]
    return min(able, key=lambda node: (sum(node.gpus), node.cpus, node.id), default=None)


def why_not(request: Request, nodes: Sequence[Node]) -> Iterator[tuple[str, str]]:
    """Each resource that keeps a request from every node, even from an empty one, with the reason."""
    if any(node.fits(request) for node in nodes):
        return
    most = {
        "cpus": max((node.cpus for node in nodes), default=0),
        "gpus": max((len(node.gpus) for node in nodes), default=0),
        "memory_gb": max((node.memory_gb for node in nodes), default=0),
    }
    needs = {"cpus": request.cpus, "gpus": request.gpus, "memory_gb": request.memory_gb}
    short = [name for name in needs if needs[name] > most[name]]
    for name in short or ["cpus"]:
        largest = f"the largest of {len(nodes)} node{'s' * (len(nodes) != 1)} has {most[name]:g}"
        together = "" if short else " together with the GPUs and memory asked for"
        yield name, f"needs {needs[name]:g}, but {largest}{together}: lower it or add a node."
