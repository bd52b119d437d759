"""One try at a job: a worker is lent, the job runs there, and what comes of it is named."""

from __future__ import annotations

import asyncio
from typing import Any

from ray import exceptions

from orchestrator.errors import JobTimeout, StoreUnavailable
from orchestrator.executors.failures import Attempt, Cause, Failure, failure_of
from orchestrator.executors.ray.activity import Activity
from orchestrator.executors.ray.pool import NowhereToRun, Pool, Slot
from orchestrator.executors.ray.store_gate import StoreGate
from orchestrator.executors.recorder import SessionRecorder
from orchestrator.executors.sizer import Sizer
from orchestrator.placement.nodes import Request
from orchestrator.planning.graph import PlannedJob
from orchestrator.store.artifacts import Facts
from orchestrator.store.leases import Leases
from workloads.core.errors import JobStopped

SAY_WAITING_AFTER_S = 10.0
"""How long a worker may take to start before its job is said to wait; others may hold what it needs."""
LOOK_FOR_OTHERS_EVERY_S = 2.0
DUMP_PATIENCE_S = 3.0
"""How long the worker of a job that took too long may go on, in which it writes its stacks to the job's log."""


class Attempts:
    """Runs jobs once each on workers of a pool, beside other drivers that share the store."""

    def __init__(
        self,
        pool: Pool,
        recorder: SessionRecorder,
        *,
        leases: Leases,
        sizer: Sizer,
        gate: StoreGate,
        activity: Activity,
        stopping: asyncio.Event,
    ) -> None:
        """`stopping` is set when the run is asked to end."""
        self._pool, self._recorder, self._leases, self._sizer = pool, recorder, leases, sizer
        self._gate, self._activity, self._stopping = gate, activity, stopping
        self._alone: dict[str, asyncio.Lock] = {}
        """Held by the one job that may ask a service."""

    async def run(self, job: PlannedJob, attempt: Attempt) -> Failure | None:
        """Run a job, once no other runs that asks the same service, if only one may.

        Returns why it failed, or None if it is done.

        Raises:
            CancelledError: if the run is asked to end.
        """
        if job.alone is None:
            return await self._beside_other_drivers(job, attempt)
        async with self._alone.setdefault(job.alone, asyncio.Lock()):
            return await self._beside_other_drivers(job, attempt)

    async def _beside_other_drivers(self, job: PlannedJob, attempt: Attempt) -> Failure | None:
        """Run a job, unless a sweep of another process is at it: then wait for what comes of that."""
        reason = ""
        while (failure := await self._on_next_worker(job, attempt)) is not None and failure.cause == "elsewhere":
            if failure.message != reason:
                reason = failure.message
                self._recorder.wait_job(job, attempt.request, reason)
            self._activity.wait(job, attempt.request, reason)
            await asyncio.sleep(LOOK_FOR_OTHERS_EVERY_S)
        return failure

    async def _on_next_worker(self, job: PlannedJob, attempt: Attempt) -> Failure | None:
        """Run a job on the next worker that is free."""
        if self._stopping.is_set():
            raise asyncio.CancelledError
        self._activity.wait(job, attempt.request)
        try:
            await self._gate.wait()
            slot = await self._pool.acquire(attempt.request)
        except NowhereToRun as error:
            return Failure("placement", str(error))
        finally:
            self._activity.wait_no_more(job)
        try:
            if holder := self._leases.take(job.key):
                self._pool.release(slot)
                return Failure("elsewhere", f"is computed by {holder}")
            if self._recorder.is_done(job.key):  # another process was faster
                self._pool.release(slot)
                return None
            facts = await self._on(slot, job, attempt)
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

    async def _on(self, slot: Slot, job: PlannedJob, attempt: Attempt) -> Facts:
        """Run a job on a worker, and return its facts."""
        request = attempt.request
        self._activity.begin(job, slot)
        facts: asyncio.Future[Facts] = asyncio.ensure_future(
            slot.actor.run.remote(job, request, attempt.first.unused_gpu)
        )
        try:
            await self._start(slot, job, request, over=facts)
            self._activity.begin(job, slot)
            self._recorder.start_job(job, request, node=slot.node, worker=slot.number)
            return await _within(job.needs.timeout_s, facts)
        finally:
            self._activity.end(job)

    async def _start(self, slot: Slot, job: PlannedJob, request: Request, *, over: asyncio.Future[Facts]) -> None:
        """Wait until the worker of a job has started, or the job is over; if it takes long, say what it waits for."""
        reason, started = "", asyncio.create_task(slot.started.wait())
        either: set[asyncio.Future[Any]] = {started, over}
        while not slot.started.is_set() and not over.done():
            await asyncio.wait(either, timeout=SAY_WAITING_AFTER_S, return_when=asyncio.FIRST_COMPLETED)
            if not started.done() and not over.done() and (latest := self._pool.why_waiting(slot)) != reason:
                reason = latest
                self._recorder.wait_job(job, request, reason)
                self._activity.hold(job, reason)
        started.cancel()


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
