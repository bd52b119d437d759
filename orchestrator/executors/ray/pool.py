"""Warm workers: who works, who is idle, who has to go so that another can be placed."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.executors.ray.cluster import alive_nodes
from orchestrator.executors.ray.worker import Worker
from orchestrator.planning.graph import Request
from orchestrator.planning.placement import Node, place, why_not
from workloads.core.errors import MidreError

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
"""How often the cluster is looked at again while a job waits: nodes come and go."""
GIVE_UP_AFTER_S = 120.0
"""How long a job waits when no node, even an empty one, could take it."""


class NowhereToRun(MidreError):
    """No node of the cluster can take a job."""


@dataclass
class Slot:
    """A worker process on a node."""

    number: int
    actor: Any
    request: Request
    node: str
    idle: bool = False


@dataclass
class _Waiting:
    request: Request
    slot: asyncio.Future[Slot]
    since: float = field(default_factory=time.monotonic)


class Pool:
    """Gives out workers. A worker keeps its resources while it lives, so idle ones of another shape make room."""

    def __init__(self, start: Callable[[], tuple[Any, ...]]) -> None:
        self._arguments = start
        self._slots: dict[int, Slot] = {}
        self._queue: deque[_Waiting] = deque()
        self._numbers = itertools.count()
        self._watch: asyncio.Task[None] | None = None

    async def acquire(self, request: Request) -> Slot:
        """A worker for one job, as soon as there is room.

        Raises:
            NowhereToRun: if for long no node could take the request.
        """
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._dispatch()
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._look_again())
        return await waiting.slot

    def warm(self, requests: Sequence[Request]) -> None:
        """Start workers that will be wanted soon, as many as there is room for, in turn for each of `requests`."""
        for request in itertools.cycle(dict.fromkeys(requests)):
            node = place(request, self._free(alive_nodes(), list(self._slots.values())))
            if node is None:
                return
            self._start_on(node, request).idle = True

    def has_room(self, request: Request) -> bool:
        """True where a job would find a worker at once and nobody waits for one."""
        if self._queue:
            return False
        return self._idle(request) is not None or place(request, self._free(alive_nodes(), self._busy())) is not None

    def release(self, slot: Slot) -> None:
        """The job is over and the worker is fine."""
        slot.idle = True
        self._dispatch()

    def lost(self, slot: Slot) -> None:
        """The worker is dead, or must not be used again."""
        self._slots.pop(slot.number, None)
        ray.kill(slot.actor)
        self._dispatch()

    def _dispatch(self) -> None:
        """Serve everybody in the queue who can be served, in order."""
        for waiting in list(self._queue):
            slot = self._idle(waiting.request) or self._start(waiting.request)
            if slot is not None:
                slot.idle = False
                self._queue.remove(waiting)
                waiting.slot.set_result(slot)

    def _idle(self, request: Request) -> Slot | None:
        return next((slot for slot in self._slots.values() if slot.idle and slot.request == request), None)

    def _start(self, request: Request) -> Slot | None:
        nodes = alive_nodes()
        node = place(request, self._free(nodes, list(self._slots.values())))
        if node is None:
            node = self._make_room(request, nodes)
        return None if node is None else self._start_on(node, request)

    def _start_on(self, node: Node, request: Request) -> Slot:
        actor = Worker.options(  # type: ignore[attr-defined]
            num_cpus=request.cpus,
            num_gpus=request.gpus,
            memory=int(request.memory_gb * 2**30),
            max_restarts=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
        ).remote(*self._arguments())
        slot = Slot(next(self._numbers), actor, request, node.id)
        self._slots[slot.number] = slot
        return slot

    def _make_room(self, request: Request, nodes: list[Node]) -> Node | None:
        """Retire idle workers where that lets the request in; the node it then goes to."""
        node = place(request, self._free(nodes, self._busy()))
        if node is not None:
            for slot in [slot for slot in self._slots.values() if slot.idle and slot.node == node.id]:
                del self._slots[slot.number]
                ray.kill(slot.actor)
        return node

    def _busy(self) -> list[Slot]:
        return [slot for slot in self._slots.values() if not slot.idle]

    @staticmethod
    def _free(nodes: list[Node], slots: list[Slot]) -> list[Node]:
        """What the given workers leave of each node."""
        free = {node.id: node for node in nodes}
        for slot in slots:
            if slot.node in free:
                free[slot.node] = free[slot.node].without(slot.request)
        return list(free.values())

    async def _look_again(self) -> None:
        """While somebody waits, look whether nodes came; give up on requests that no node could ever take."""
        while self._queue:
            await asyncio.sleep(LOOK_EVERY_S)
            self._dispatch()
            nodes = alive_nodes()
            for waiting in list(self._queue):
                reasons = [message for _, message in why_not(waiting.request, nodes)]
                if reasons and time.monotonic() - waiting.since > GIVE_UP_AFTER_S:
                    self._queue.remove(waiting)
                    waiting.slot.set_exception(NowhereToRun(reasons[0]))
