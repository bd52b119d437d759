"""The one actor that owns a run's jobs: it runs each once, places and retries it, and writes the ledger."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray import exceptions

from orchestrator.errors import DamagedArtifact, JobTimeout, StoreUnavailable
from orchestrator.executors.failures import Attempt, Cause, Failure, failure_of
from orchestrator.executors.logs import keep_log
from orchestrator.executors.ray.pool import NowhereToRun, Pool, Slot
from orchestrator.executors.ray.worker import ImageArrays, read_data
from orchestrator.executors.recorder import SessionRecorder
from orchestrator.executors.sizer import Sizer
from orchestrator.executors.snapshot import NodeUse, RunningJob, Snapshot, WaitingJob
from orchestrator.placement.machine import LocalGpus
from orchestrator.placement.nodes import Request
from orchestrator.planning.graph import Outcome, PlannedJob, TrialPlan
from orchestrator.store.artifacts import ArtifactStore, Facts
from orchestrator.store.leases import Leases
from orchestrator.store.ledger import LEDGER_PATIENCE_S, Ledger
from orchestrator.store.owners import Owner
from orchestrator.store.paths import RunPaths
from orchestrator.store.room import NO_JOB_BEGINS, bytes_of, want_of_room
from workloads.core.errors import JobStopped

logger = logging.getLogger(__name__)

IDLE_CHECK_EVERY_S = 0.5
"""How often to look for idle workers while there are jobs of later trials."""
SAY_WAITING_AFTER_S = 10.0
"""How long a worker may take to start before its job is said to wait; others may hold what it needs."""
LOOK_FOR_OTHERS_EVERY_S = 2.0
LOOK_FOR_ROOM_EVERY_S = 5.0
LOOK_AT_NODES_EVERY_S = 2.0
DUMP_PATIENCE_S = 3.0
"""How long the worker of a job that took too long may go on, in which it writes its stacks to the job's log."""
STOPPED = "the run was stopped"
MAX_CONCURRENCY = 10_000
"""Calls that the broker answers at a time: one for each trial in flight, and those of workers and displays."""


@dataclass(frozen=True)
class _Waiting:
    """A job that waits: for its inputs, for room on a node if it has them, or for something else."""

    job: PlannedJob
    request: Request | None = None
    reason: str = ""
    """What for, if it is neither."""
    since: float = field(default_factory=time.time)


class Broker:
    """Runs the jobs of a session for its trials. A job belongs to the broker, so that it goes on when a trial ends."""

    def __init__(
        self,
        store: str,
        ledger: str,
        checkpoint_every_s: float,
        *,
        gpus: Mapping[str, LocalGpus] | None = None,
        offers: Collection[str] = (),
        accepted_changes: Sequence[str] = (),
    ) -> None:
        """Begin without workers.

        Args:
            gpus: what nodes make of their GPUs, by their ids; None if the spec sets all shares.
            offers: names of the data sets that the driver reads, of each of which `offer_images` will tell.
            accepted_changes: changed files whose old results are used.
        """
        keep_log(RunPaths(Path(ledger).parent).log)
        self._store = ArtifactStore(store)
        self._ledger = Ledger(Path(ledger), patience_s=LEDGER_PATIENCE_S)
        self._recorder = SessionRecorder(self._store, self._ledger.append, accepted_changes)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._data: dict[str, ray.ObjectRef[ImageArrays]] = {}
        self._offers = {name: asyncio.Event() for name in offers}
        self._running: dict[str, RunningJob] = {}
        self._alone: dict[str, asyncio.Lock] = {}
        """Held by the one job that may ask a service."""
        self._stopping = asyncio.Event()
        self._waiting: dict[str, _Waiting] = {}
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._trouble = ""
        self._nodes: tuple[NodeUse, ...] = ()
        self._watch: asyncio.Task[None] | None = None
        self._pool = Pool(
            lambda *worker: (store, ray.get_runtime_context().current_actor, checkpoint_every_s, *worker), gpus
        )
        self._leases = Leases(self._store.files, Owner.this_process())
        self._leases.keep_renewed()
        self._sizer = Sizer(self._store.latest_of, self._pool.nodes)

    async def warm(self, plan: TrialPlan) -> None:
        """Start workers for the first jobs of a plan, which takes seconds, before anybody waits for them."""
        self._watch = asyncio.create_task(self._watch_nodes())
        self._pool.warm([self._sizer.size(job).request for job in plan.jobs if not job.inputs])

    async def look_ahead(self, jobs: list[PlannedJob]) -> None:
        """Start jobs of later trials whenever a worker would be idle, such as while all trials wait for one prior.

        The jobs must have no inputs, so that each can claim its worker within a single turn of the event loop.
        """
        self._recorder.expect(jobs)
        for job in jobs:
            while job.key not in self._tasks and not self._stopping.is_set():
                if self._pool.has_room(self._sizer.size(job).request):
                    self._tasks[job.key] = asyncio.create_task(self._run_after_inputs(job, {job.key: job}))
                    await asyncio.sleep(0)
                else:
                    await asyncio.sleep(IDLE_CHECK_EVERY_S)

    async def run_trial(self, plan: TrialPlan) -> Outcome:
        """Run those jobs of a trial that are not done yet; returns when every job is done or has failed."""
        self._recorder.start_trial(plan)
        by_key = {job.key: job for job in plan.jobs}
        try:
            await asyncio.gather(*(self._finish(job, by_key) for job in plan.jobs))
        except asyncio.CancelledError:
            if not self._stopping.is_set():
                raise
            return Outcome(None, STOPPED)
        metrics = self._recorder.finish_trial(plan)
        errors = self._recorder.errors
        error = next((errors[job.key] for job in plan.jobs if job.key in errors), "")
        return Outcome(metrics, error)

    async def finish_cached(self, plan: TrialPlan) -> Outcome | None:
        """Return the outcome of a trial whose jobs are all done already, else None; never starts a job."""
        if not self._recorder.is_cached(plan):
            return None
        self._recorder.start_trial(plan)
        return Outcome(self._recorder.finish_trial(plan))

    async def images(self, name: str, data: str) -> tuple[ray.ObjectRef[ImageArrays]]:
        """Return a reference to a data set in shared memory, which is read at the first call.

        It comes in a tuple, since Ray would replace a bare reference by what it refers to.

        Args:
            name: the same for the same data set.
            data: a `DataInput` as JSON.
        """
        if name in self._offers:
            await self._offers[name].wait()
        if name not in self._data:
            self._data[name] = read_data.remote(data)
        return (self._data[name],)

    async def offer_images(self, name: str, images: tuple[ray.ObjectRef[ImageArrays]] | None) -> None:
        """Take a data set that the driver has read, in a tuple as above; None if it could not read it."""
        if images is not None:
            self._data[name] = images[0]
        self._offers[name].set()

    async def worker_started(self, number: int) -> None:
        """Hear from a worker that its process is there."""
        self._pool.worker_started(number)

    async def progress(self, key: str, step: int, steps: int, metrics: dict[str, float]) -> None:
        """Take note of how far a job is, for displays."""
        if key in self._running:
            self._running[key] = replace(self._running[key], step=step, steps=steps, metrics=metrics)

    async def snapshot(self) -> Snapshot:
        """Describe what is done and what is running, for a display."""
        waiting = tuple(
            WaitingJob(
                waits.job.key, waits.job.kind, waits.since, waits.reason or self._reason(waits.job, waits.request)
            )
            for waits in self._waiting.values()
        )
        return self._recorder.snapshot(tuple(self._running.values()), waiting, self._nodes, self._trouble)

    def _reason(self, job: PlannedJob, request: Request | None) -> str:
        """What a job waits for: its inputs, or room on a node."""
        if request is not None and self._trouble:
            return "waits for room in the store"
        if request is not None:
            return self._pool.why_queued(request)
        return f"waits for {', '.join(self._recorder.missing_inputs(job))}"

    async def _watch_nodes(self) -> None:
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

    async def stop(self, reason: str, grace_s: float) -> None:
        """Start no more jobs, have those at work save where they stand, and give up those that do not within `grace_s`.

        Trials that are under way end without an outcome; the ledger holds them as begun.
        """
        self._stopping.set()
        at_work = [self._tasks[key] for key in self._running]
        for task in set(self._tasks.values()) - set(at_work):
            task.cancel()
        if at_work:
            await asyncio.wait(at_work, timeout=grace_s)
        for task in at_work:
            task.cancel()
        self._recorder.stop_sweep(reason)

    async def until_stopped(self) -> None:
        """Return when the run is asked to end."""
        await self._stopping.wait()

    async def _finish(self, job: PlannedJob, by_key: dict[str, PlannedJob]) -> None:
        """Start a job unless another trial has; returns when it is done or has failed."""
        if job.key not in self._tasks and self._stopping.is_set():
            raise asyncio.CancelledError
        if job.key not in self._tasks:
            self._tasks[job.key] = asyncio.create_task(self._run_after_inputs(job, by_key))
        await asyncio.shield(self._tasks[job.key])  # one that waits may be given up without the job

    async def _run_after_inputs(self, job: PlannedJob, by_key: dict[str, PlannedJob]) -> None:
        """Run a job as soon as its inputs are done, unless it is done already or one of them failed."""
        if self._recorder.is_done(job.key):
            return
        self._waiting[job.key] = _Waiting(job)
        try:
            await asyncio.gather(*(self._finish(by_key[key], by_key) for key in job.inputs.values()))
        finally:
            self._waiting.pop(job.key, None)
        if all(map(self._recorder.is_done, job.inputs.values())):
            await self._run_with_retries(job, by_key)

    async def _run_with_retries(self, job: PlannedJob, by_key: dict[str, PlannedJob]) -> None:
        """Run a job until it is done or there is no point in trying again."""
        attempt, input_recomputed = Attempt.begin(self._sizer.size(job)), False
        while (failure := await self._attempt_in_turn(job, attempt)) is not None:
            if failure.damaged_input is not None and not input_recomputed:
                input_recomputed = True
                await self._recompute(failure.damaged_input, by_key)
                continue
            following = attempt.next_after(failure.cause)
            if following is None:
                self._recorder.fail_job(job, attempt.explain(failure), cause=failure.cause)
                return
            self._recorder.retry_job(job, failure.message, cause=failure.cause)
            if failure.cause == "storage" and self._has_room.is_set():
                self._has_room.clear()
                await self._wait_for_room(bytes_of(self._store.latest_of(job.shape)))
            attempt = following

    async def _attempt_alone(self, job: PlannedJob, attempt: Attempt) -> Failure | None:
        """Run a job once, unless a sweep of another process is at it: then wait for what comes of that."""
        reason = ""
        while (failure := await self._attempt(job, attempt)) is not None and failure.cause == "elsewhere":
            if failure.message != reason:
                reason = failure.message
                self._recorder.wait_job(job, attempt.request, reason)
            self._waiting[job.key] = _Waiting(job, attempt.request, reason)
            await asyncio.sleep(LOOK_FOR_OTHERS_EVERY_S)
        return failure

    async def _attempt_in_turn(self, job: PlannedJob, attempt: Attempt) -> Failure | None:
        """The same as `_attempt`, once no other job runs that asks the same service, if only one may."""
        if job.alone is None:
            return await self._attempt_alone(job, attempt)
        async with self._alone.setdefault(job.alone, asyncio.Lock()):
            return await self._attempt_alone(job, attempt)

    async def _attempt(self, job: PlannedJob, attempt: Attempt) -> Failure | None:
        """Run a job once, on the next worker that is free; returns why it failed, or None if it is done.

        Raises:
            CancelledError: if the run is asked to end.
        """
        if self._stopping.is_set():
            raise asyncio.CancelledError
        self._waiting[job.key] = _Waiting(job, attempt.request)
        try:
            await self._has_room.wait()
            slot = await self._pool.acquire(attempt.request)
        except NowhereToRun as error:
            return Failure("placement", str(error))
        finally:
            self._waiting.pop(job.key, None)
        try:
            if holder := self._leases.take(job.key):
                self._pool.release(slot)
                return Failure("elsewhere", f"is computed by {holder}")
            if self._recorder.is_done(job.key):  # another process was faster
                self._pool.release(slot)
                return None
            facts = await self._run_on(slot, job, attempt)
        except StoreUnavailable as error:
            self._pool.release(slot)
            return failure_of(error)
        except JobTimeout as error:
            self._pool.discard(slot)
            return failure_of(error)
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, JobStopped):
                self._recorder.stop_job(job)
                raise asyncio.CancelledError from error
            failure = failure_of(error.cause)
            # What failed for want of GPU memory may still hold some of it.
            (self._pool.discard if failure.cause == "gpu memory" else self._pool.release)(slot)
            return failure
        except exceptions.RayError as error:  # its worker or node is gone
            self._pool.discard(slot)
            cause: Cause = "memory" if isinstance(error, exceptions.OutOfMemoryError) else "lost worker"
            return Failure(cause, f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
        finally:
            self._leases.release(job.key)
        self._sizer.learn(job, facts)
        # The ledger has it on disk before any trial learns of it.
        self._recorder.finish_job(job, facts)
        self._pool.release(slot)
        return None

    async def _run_on(self, slot: Slot, job: PlannedJob, attempt: Attempt) -> Facts:
        request = attempt.request
        self._running[job.key] = self._begun(job, slot)
        facts: asyncio.Future[Facts] = asyncio.ensure_future(
            slot.actor.run.remote(job, request, attempt.first.unused_gpu)
        )
        try:
            await self._start(slot, job, request, over=facts)
            self._running[job.key] = self._begun(job, slot)
            self._recorder.start_job(job, request, node=slot.node, worker=slot.number)
            return await self._within(job.needs.timeout_s, facts)
        finally:
            del self._running[job.key]

    def _begun(self, job: PlannedJob, slot: Slot) -> RunningJob:
        host = next((node.host for node in self._nodes if node.id == slot.node), slot.node[:12])
        gpus = ", ".join(f"GPU {index}" for index in slot.gpus)
        return RunningJob(job.key, job.kind, time.time(), node=host, device=gpus or f"{slot.request.cpus} CPUs")

    @staticmethod
    async def _within(timeout_s: float | None, facts: asyncio.Future[Facts]) -> Facts:
        """The facts of a job; the worker of one that takes too long has a moment to write down what it was doing.

        Raises:
            JobTimeout: if it does.
        """
        if timeout_s is None:
            return await facts
        try:
            return await asyncio.wait_for(facts, timeout_s + DUMP_PATIENCE_S)
        except TimeoutError:
            raise JobTimeout(timeout_s) from None

    async def _start(self, slot: Slot, job: PlannedJob, request: Request, *, over: asyncio.Future[Facts]) -> None:
        """Wait until the worker of a job has started, or the job is over; if it takes long, say what it waits for."""
        reason, started = "", asyncio.create_task(slot.started.wait())
        either: set[asyncio.Future[Any]] = {started, over}
        while not slot.started.is_set() and not over.done():
            await asyncio.wait(either, timeout=SAY_WAITING_AFTER_S, return_when=asyncio.FIRST_COMPLETED)
            if not started.done() and not over.done() and (latest := self._pool.why_waiting(slot)) != reason:
                reason = latest
                self._recorder.wait_job(job, request, reason)
                self._running[job.key] = replace(self._running[job.key], waits_for=reason)
        started.cancel()

    async def _wait_for_room(self, needed: int) -> None:
        """Let no job begin until the store takes a result of so many bytes."""
        try:
            while trouble := await asyncio.to_thread(want_of_room, self._store, needed):
                self._trouble = f"{trouble} {NO_JOB_BEGINS}"
                await asyncio.sleep(LOOK_FOR_ROOM_EVERY_S)
        finally:
            self._trouble = ""
            self._has_room.set()

    async def _recompute(self, damage: DamagedArtifact, by_key: dict[str, PlannedJob]) -> None:
        """Set a damaged artifact aside and run its job again."""
        self._recorder.set_aside(damage)
        self._tasks.pop(damage.key, None)
        await self._finish(by_key[damage.key], by_key)


BrokerActor = ray.remote(Broker)
