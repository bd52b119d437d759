"""The worker processes of a run: which are busy, which are idle, and which must stop to make room for another."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.executors.ray.cluster import alive_nodes
from orchestrator.executors.ray.devices import LOOK_FOR_S, described, look_at
from orchestrator.executors.ray.mps import client_environment
from orchestrator.executors.ray.worker import WorkerActor
from orchestrator.executors.snapshot import NodeUse
from orchestrator.placement.machine import LocalGpus
from orchestrator.placement.nodes import Node, Request, place, shortage, why_not
from workloads.core.errors import MidreError

logger = logging.getLogger(__name__)

CHECK_NODES_EVERY_S = 2.0
"""How often to look at the cluster again while a job waits: nodes come and go."""
GIVE_UP_AFTER_S = 120.0
"""How long a job waits when no node, even an empty one, could take it."""


class NowhereToRun(MidreError):
    """No node of the cluster can take a job."""


@dataclass
class Slot:
    """A worker process on a node."""

    number: int
    """Counts the workers of a run, from 0."""
    actor: Any
    """Ray's handle of the process."""
    request: Request
    """What the worker occupies, idle or not."""
    node: str
    """Id of its node."""
    gpus: tuple[int, ...] = ()
    """Which GPUs of its node it holds, by index."""
    idle: bool = False
    started: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once Ray has started its process, for which it may have to wait until others leave room."""

    def serves(self, request: Request) -> bool:
        """Whether a job that asks for this can run here: main memory may be more than it asks for."""
        return self.request.memory_gb >= request.memory_gb and request == replace(
            self.request, memory_gb=request.memory_gb
        )


@dataclass
class _Waiting:
    """A job that waits for a worker."""

    request: Request
    slot: asyncio.Future[Slot]
    since: float = field(default_factory=time.monotonic)


class Pool:
    """Lends workers to jobs. A worker keeps its resources while it lives, so idle ones are stopped to make room."""

    def __init__(
        self, worker_arguments: Callable[[int, float], tuple[Any, ...]], gpus: Mapping[str, LocalGpus] | None
    ) -> None:
        """Begin without workers.

        Args:
            worker_arguments: returns what a new worker is constructed with, from its number and its share of a GPU.
            gpus: what nodes make of their GPUs, by their ids; None if the spec sets all shares, so that nobody asks.
        """
        self._worker_arguments = worker_arguments
        self._gpus = None if gpus is None else dict(gpus)
        self._slots: dict[int, Slot] = {}
        self._queue: deque[_Waiting] = deque()
        self._numbers = itertools.count()
        self._watch: asyncio.Task[None] | None = None

    def nodes(self) -> list[Node]:
        """The nodes that are alive, each with everything it has, in use or not, and what is known of its GPUs.

        A node that has just joined is left out until it has looked at its GPUs.
        """
        if self._gpus is None:
            return alive_nodes()
        return described([node for node in alive_nodes() if not node.gpus or node.id in self._gpus], self._gpus)

    async def acquire(self, request: Request) -> Slot:
        """Lend a worker to one job, as soon as there is room.

        Raises:
            NowhereToRun: if no node, even an empty one, could take the request for `GIVE_UP_AFTER_S`.
        """
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._dispatch()
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._watch_nodes())
        try:
            return await waiting.slot
        except asyncio.CancelledError:
            if waiting in self._queue:
                self._queue.remove(waiting)
            raise

    def warm(self, requests: Sequence[Request]) -> None:
        """Start as many workers as there is room for, in turn for each of the requests that are to come soon."""
        for request in itertools.cycle(dict.fromkeys(requests)):
            node = place(request, self._free(self.nodes(), list(self._slots.values())))
            if node is None:
                return
            self._start_on(node, request).idle = True

    def has_room(self, request: Request) -> bool:
        """True if a job would get a worker at once, and no other waits for one."""
        if self._queue:
            return False
        return self._idle(request) is not None or place(request, self._free(self.nodes(), self._busy())) is not None

    def worker_started(self, number: int) -> None:
        """Hear from a worker that Ray has started it."""
        if number in self._slots:
            self._slots[number].started.set()

    def why_waiting(self, slot: Slot) -> str:
        """Say what a worker waits for that Ray has not started yet."""
        ours = [other.request for other in self._slots.values() if other.started.is_set()]
        return held_by_others(slot.request, ours, ray.cluster_resources(), ray.available_resources())

    def why_queued(self, request: Request) -> str:
        """Say what a job waits for that has no worker yet."""
        nodes = self.nodes()
        reasons = [f"{resource}: {message}" for resource, message in why_not(request, nodes)]
        return reasons[0] if reasons else shortage(request, self._free(nodes, self._busy()))

    def uses(self) -> tuple[NodeUse, ...]:
        """The nodes, with what busy workers leave of each."""
        nodes = self.nodes()
        free = {node.id: node for node in self._free(nodes, self._busy())}
        return tuple(_use(node, free[node.id]) for node in nodes)

    def release(self, slot: Slot) -> None:
        """Take back a worker whose job is over and which can run another."""
        slot.idle = True
        self._dispatch()

    def discard(self, slot: Slot) -> None:
        """Stop a worker that is dead or must not be used again."""
        self._slots.pop(slot.number, None)
        ray.kill(slot.actor)
        self._dispatch()

    def _dispatch(self) -> None:
        """Give workers to the waiting jobs that fit somewhere, in order."""
        for waiting in list(self._queue):
            slot = self._idle(waiting.request) or self._start(waiting.request)
            if slot is not None:
                slot.idle = False
                self._queue.remove(waiting)
                waiting.slot.set_result(slot)

    def _idle(self, request: Request) -> Slot | None:
        able = [slot for slot in self._slots.values() if slot.idle and slot.serves(request)]
        return min(able, key=lambda slot: slot.request.memory_gb, default=None)

    def _start(self, request: Request) -> Slot | None:
        nodes = self.nodes()
        node = place(request, self._free(nodes, list(self._slots.values())))
        if node is None:
            node = self._make_room(request, nodes)
        return None if node is None else self._start_on(node, request)

    def _start_on(self, node: Node, request: Request) -> Slot:
        """Start a worker on a node; `node` is what is left of it."""
        gpus = node.gpus_for(request) or ()
        share = max((node.gpus[index].share_of(request) for index in gpus), default=0.0)
        number = next(self._numbers)
        actor = WorkerActor.options(
            num_cpus=request.cpus,
            num_gpus=share * len(gpus),
            memory=int(request.memory_gb * 2**30),
            max_restarts=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
            runtime_env=client_environment(node, gpus, share),
        ).remote(*self._worker_arguments(number, share))
        slot = Slot(number, actor, request, node.id, gpus)
        self._slots[slot.number] = slot
        return slot

    def _make_room(self, request: Request, nodes: list[Node]) -> Node | None:
        """Stop idle workers to make room. Returns the node that then has room, or None if no node can."""
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
        """Subtract what workers occupy from their nodes."""
        free = {node.id: node for node in nodes}
        for slot in slots:
            if slot.node in free:
                free[slot.node] = free[slot.node].without(slot.request, slot.gpus)
        return list(free.values())

    async def _watch_nodes(self) -> None:
        """While jobs wait, look for new nodes; give up on requests that no node could ever take."""
        while self._queue:
            await asyncio.sleep(CHECK_NODES_EVERY_S)
            await self._look_at_new_nodes()
            self._dispatch()
            nodes = self.nodes()
            for waiting in list(self._queue):
                reasons = [message for _, message in why_not(waiting.request, nodes)]
                if reasons and time.monotonic() - waiting.since > GIVE_UP_AFTER_S:
                    self._queue.remove(waiting)
                    waiting.slot.set_exception(NowhereToRun(reasons[0]))

    async def _look_at_new_nodes(self) -> None:
        """Ask nodes that have joined about their GPUs; of one that does not answer, GPUs are shared by number alone."""
        if self._gpus is None:
            return
        for node in alive_nodes():
            if node.gpus and node.id not in self._gpus:
                try:
                    self._gpus[node.id] = await asyncio.wait_for(look_at(node.id), LOOK_FOR_S)
                except (ray.exceptions.RayError, TimeoutError):
                    self._gpus[node.id] = LocalGpus()


def _use(node: Node, free: Node) -> NodeUse:
    gpus_free = sum(gpu.free for gpu in free.gpus)
    memory = (node.memory_gb, free.memory_gb)
    return NodeUse(node.id, node.host, node.cpus, free.cpus, float(len(node.gpus)), gpus_free, *memory)


def held_by_others(
    request: Request, ours: Sequence[Request], total: Mapping[str, float], free: Mapping[str, float]
) -> str:
    """Say what a worker with this request waits for.

    Args:
        ours: what this run's workers hold.
        total: what the cluster has of each resource, by Ray's names.
        free: what nobody holds.
    """
    amounts: list[tuple[str, float, float]] = [("CPU", request.cpus, sum(other.cpus for other in ours))]
    if request.gpus:
        amounts.append(("GPU", request.gpus, sum(other.gpus for other in ours)))
    held = [
        f"{needed:.3g} {name}, of {total.get(name, 0):g} others hold {others:g}"
        for name, needed, used in amounts
        if (others := round(total.get(name, 0) - free.get(name, 0) - used, 4)) > 0
    ]
    return f"waits for {'; '.join(held)}" if held else "waits for Ray to start its worker"
