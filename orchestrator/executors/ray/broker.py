"""The one actor that owns a run's jobs: single flight, placement, retries by class of error, the ledger."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import exceptions

from orchestrator.errors import DamagedArtifact
from orchestrator.executors.base import Book, RunningJob, Snapshot
from orchestrator.executors.ray.pool import NowhereToRun, Pool, Slot
from orchestrator.executors.ray.worker import read_data
from orchestrator.planning.graph import Outcome, PlannedJob, TrialPlan
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.ledger import LEDGER_PATIENCE_S, Ledger

logger = logging.getLogger(__name__)

MOST_LOST_WORKERS = 5
"""How often a job may lose its worker before the job itself is suspected."""
IDLE_LOOK_EVERY_S = 0.5
"""How often idle workers are looked for while there are jobs of trials to come."""
OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError")


@ray.remote(num_cpus=0, max_concurrency=10_000)  # type: ignore[call-overload]
class Broker:
    """Jobs belong to it and not to the trials that ask for them, so no trial's end ends a job."""

    def __init__(self, store: str, ledger: str, checkpoint_every_s: float) -> None:
        self._store = ArtifactStore(store)
        self._ledger = Ledger(Path(ledger), patience_s=LEDGER_PATIENCE_S)
        self._book = Book(self._store, self._ledger.append)
        self._flights: dict[str, asyncio.Task[None]] = {}
        self._data: dict[str, Any] = {}
        self._running: dict[str, RunningJob] = {}
        self._pool = Pool(lambda: (store, ray.get_runtime_context().current_actor, checkpoint_every_s))

    async def warm(self, plan: TrialPlan) -> None:
        """Let workers for the first jobs of a plan start, which takes seconds, while nobody waits for them yet."""
        self._pool.warm([job.request for job in plan.jobs if not job.inputs])

    async def look_ahead(self, jobs: list[PlannedJob]) -> None:
        """Start jobs of trials to come whenever a worker would stand idle, as while all trials wait for one prior.

        The jobs must need no other's result: each then takes its worker in the one turn of the loop left to it.
        """
        for job in jobs:
            while job.key not in self._flights:
                if self._pool.has_room(job.request):
                    self._flights[job.key] = asyncio.create_task(self._fly(job, {job.key: job}))
                    await asyncio.sleep(0)
                else:
                    await asyncio.sleep(IDLE_LOOK_EVERY_S)

    async def run_trial(self, plan: TrialPlan) -> Outcome:
        """Run what is not done yet of a trial; returns when all of it is done or failed."""
        self._book.start_trial(plan)
        by_key = {job.key: job for job in plan.jobs}
        await asyncio.gather(*(self._ensure(job, by_key) for job in plan.jobs))
        metrics = self._book.finish_trial(plan)
        error = next((self._book.failed[job.key] for job in plan.jobs if job.key in self._book.failed), "")
        return Outcome(metrics, error)

    async def finish_cached(self, plan: TrialPlan) -> Outcome | None:
        """The outcome of a trial whose every job is done already, without starting anything; else None."""
        if not self._book.is_cached(plan):
            return None
        self._book.start_trial(plan)
        return Outcome(self._book.finish_trial(plan))

    async def images(self, name: str, described: str) -> tuple[Any]:
        """A reference to a data set in shared memory, read on first demand. In a tuple, so that it stays one."""
        if name not in self._data:
            self._data[name] = read_data.remote(described)
        return (self._data[name],)

    async def progress(self, key: str, step: int, steps: int, metrics: dict[str, float]) -> None:
        if key in self._running:
            self._running[key] = replace(self._running[key], step=step, steps=steps, metrics=metrics)

    async def snapshot(self) -> Snapshot:
        return self._book.snapshot(tuple(self._running.values()))

    async def _ensure(self, job: PlannedJob, by_key: dict[str, PlannedJob]) -> None:
        """Have a job done, whoever asked first; returns when it is done or has failed."""
        if job.key not in self._flights:
            self._flights[job.key] = asyncio.create_task(self._fly(job, by_key))
        await self._flights[job.key]

    async def _fly(self, job: PlannedJob, by_key: dict[str, PlannedJob]) -> None:
        if self._book.has(job.key):
            return
        await asyncio.gather(*(self._ensure(by_key[key], by_key) for key in job.inputs.values()))
        if all(map(self._book.has, job.inputs.values())):
            await self._run(job, by_key)

    async def _run(self, job: PlannedJob, by_key: dict[str, PlannedJob]) -> None:
        """Run a job until it is done or there is no point in trying again."""
        request, lost, mended = job.request, 0, False
        while True:
            try:
                slot = await self._pool.acquire(request)
            except NowhereToRun as error:
                self._book.fail_job(job, str(error), cause="placement")
                return
            try:
                await self._attempt(job, slot)
                return
            except exceptions.RayTaskError as error:
                self._pool.release(slot)
                if isinstance(error.cause, DamagedArtifact) and not mended:
                    mended = True
                    await self._make_again(error.cause, by_key)
                    continue
                out_of_memory = type(error.cause).__name__ in OUT_OF_MEMORY
                cause, message = "memory" if out_of_memory else "code", _message(error)
            except exceptions.OutOfMemoryError as error:
                self._pool.lost(slot)
                cause, message = "memory", _first_line(error)
            except exceptions.RayError as error:  # its worker or node is gone
                self._pool.lost(slot)
                cause, message, lost = "lost worker", _first_line(error), lost + 1
            if cause == "lost worker" and lost < MOST_LOST_WORKERS:
                self._book.retry_job(job, message, cause=cause)
            elif cause == "memory" and request == job.request:
                request = replace(request, memory_gb=request.memory_gb * 2)
                self._book.retry_job(job, message, cause=cause)
            else:
                self._book.fail_job(job, message, cause=cause)
                return

    async def _attempt(self, job: PlannedJob, slot: Slot) -> None:
        self._book.start_job(job, node=slot.node, worker=slot.number)
        self._running[job.key] = RunningJob(job.key, job.kind, time.time())
        try:
            facts = await slot.actor.run.remote(job)
        finally:
            del self._running[job.key]
        # Done is on disk before anybody hears of it.
        self._book.finish_job(job, facts)
        self._pool.release(slot)

    async def _make_again(self, damage: DamagedArtifact, by_key: dict[str, PlannedJob]) -> None:
        """Set a damaged input aside and run its job anew."""
        self._book.set_aside(damage)
        self._flights.pop(damage.key, None)
        await self._ensure(by_key[damage.key], by_key)


def _message(error: exceptions.RayTaskError) -> str:
    cause = error.cause
    logger.error("%s", error)
    return f"{type(cause).__name__}: {cause}"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
