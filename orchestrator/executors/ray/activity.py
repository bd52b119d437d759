"""What a run does at this moment, for displays: jobs at work, jobs that wait and why, and the nodes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from orchestrator.executors.ray.pool import Pool, Slot
from orchestrator.executors.recorder import SessionRecorder
from orchestrator.executors.snapshot import NodeUse, RunningJob, Snapshot, WaitingJob
from orchestrator.placement.nodes import Request
from orchestrator.planning.graph import PlannedJob

LOOK_AT_NODES_EVERY_S = 2.0


@dataclass(frozen=True)
class _Waiting:
    """A job that waits: for its inputs, for room on a node if it has them, or for something else."""

    job: PlannedJob
    request: Request | None = None
    reason: str = ""
    """What for, if it is neither."""
    since: float = field(default_factory=time.time)


class Activity:
    """Told by those who start jobs, and asked by displays."""

    def __init__(self, pool: Pool, recorder: SessionRecorder, trouble: Callable[[], str]) -> None:
        """`trouble` says what keeps all jobs from beginning; empty while nothing does."""
        self._pool, self._recorder, self._trouble = pool, recorder, trouble
        self._running: dict[str, RunningJob] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._nodes: tuple[NodeUse, ...] = ()

    def wait(self, job: PlannedJob, request: Request | None = None, reason: str = "") -> None:
        """Take note that a job waits: for its inputs, for room for its request, or for the reason that is given."""
        self._waiting[job.key] = _Waiting(job, request, reason)

    def wait_no_more(self, job: PlannedJob) -> None:
        """Take note that a job has what it waited for, or was given up."""
        self._waiting.pop(job.key, None)

    def begin(self, job: PlannedJob, slot: Slot) -> None:
        """Take note that a job begins at this moment on a worker."""
        host = next((node.host for node in self._nodes if node.id == slot.node), slot.node[:12])
        gpus = ", ".join(f"GPU {index}" for index in slot.gpus)
        device = gpus or f"{slot.request.cpus} CPUs"
        self._running[job.key] = RunningJob(job.key, job.kind, time.time(), node=host, device=device)

    def hold(self, job: PlannedJob, reason: str) -> None:
        """Take note of what the worker of a job waits for."""
        self._running[job.key] = replace(self._running[job.key], waits_for=reason)

    def progress(self, key: str, step: int, steps: int, metrics: dict[str, float]) -> None:
        """Take note of how far a job is."""
        if key in self._running:
            self._running[key] = replace(self._running[key], step=step, steps=steps, metrics=metrics)

    def end(self, job: PlannedJob) -> None:
        """Take note that a job is over."""
        del self._running[job.key]

    def at_work(self) -> list[str]:
        """Keys of the jobs at work."""
        return list(self._running)

    def snapshot(self) -> Snapshot:
        """All of it, with what is done."""
        waiting = tuple(
            WaitingJob(waits.job.key, waits.job.kind, waits.since, self._reason(waits))
            for waits in self._waiting.values()
        )
        return self._recorder.snapshot(tuple(self._running.values()), waiting, self._nodes, self._trouble())

    async def watch_nodes(self) -> None:
        """Look at the nodes now and then, and tell the ledger and the log which come and go."""
        while True:
            uses = self._pool.uses()
            before, now = ({node.id: node.host for node in nodes} for nodes in (self._nodes, uses))
            for id in now.keys() - before.keys() if before else ():
                self._recorder.see_node("node_joined", id, now[id])
            for id in before.keys() - now.keys():
                self._recorder.see_node("node_left", id, before[id])
            self._nodes = uses
            await asyncio.sleep(LOOK_AT_NODES_EVERY_S)

    def _reason(self, waits: _Waiting) -> str:
        """What a job waits for."""
        if waits.reason:
            return waits.reason
        if waits.request is None:
            return f"waits for {', '.join(self._recorder.missing_inputs(waits.job))}"
        return "waits for room in the store" if self._trouble() else self._pool.why_queued(waits.request)
