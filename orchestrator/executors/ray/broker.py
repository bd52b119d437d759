"""The one actor that owns a run's jobs: it runs each once after its inputs, again if that helps, and tells trials."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import ray

from orchestrator.errors import DamagedArtifact
from orchestrator.executors.failures import Attempt
from orchestrator.executors.logs import keep_log
from orchestrator.executors.ray.activity import Activity
from orchestrator.executors.ray.attempts import Attempts
from orchestrator.executors.ray.pool import Pool
from orchestrator.executors.ray.shared_images import ImagesReference, SharedImages
from orchestrator.executors.ray.store_gate import StoreGate
from orchestrator.executors.recorder import SessionRecorder
from orchestrator.executors.sizer import Sizer
from orchestrator.executors.snapshot import Snapshot
from orchestrator.placement.machine import LocalGpus
from orchestrator.planning.graph import Outcome, PlannedJob, TrialPlan
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.leases import Leases
from orchestrator.store.ledger import LEDGER_PATIENCE_S, Ledger
from orchestrator.store.owners import Owner
from orchestrator.store.paths import RunPaths

IDLE_CHECK_EVERY_S = 0.5
"""How often to look for idle workers while there are jobs of later trials."""
STOPPED = "the run was stopped"
MAX_CONCURRENCY = 10_000
"""Calls that the broker answers at a time: one for each trial in flight, and those of workers and displays."""


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
        artifacts = ArtifactStore(store)
        self._recorder = SessionRecorder(
            artifacts, Ledger(Path(ledger), patience_s=LEDGER_PATIENCE_S).append, accepted_changes
        )
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._images = SharedImages(offers)
        self._stopping = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        self._pool = Pool(
            lambda *worker: (store, ray.get_runtime_context().current_actor, checkpoint_every_s, *worker), gpus
        )
        self._sizer = Sizer(artifacts.latest_of, self._pool.nodes)
        self._gate = StoreGate(artifacts)
        self._activity = Activity(self._pool, self._recorder, lambda: self._gate.trouble)
        leases = Leases(artifacts.files, Owner.this_process())
        leases.keep_renewed()
        self._attempts = Attempts(
            self._pool,
            self._recorder,
            leases=leases,
            sizer=self._sizer,
            gate=self._gate,
            activity=self._activity,
            stopping=self._stopping,
        )

    async def warm(self, plan: TrialPlan) -> None:
        """Start workers for the first jobs of a plan, which takes seconds, before anybody waits for them."""
        self._watch = asyncio.create_task(self._activity.watch_nodes())
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

    async def images(self, name: str, data: str) -> ImagesReference:
        """Return a reference to a data set in shared memory, as `SharedImages.get` does."""
        return await self._images.get(name, data)

    async def offer_images(self, name: str, images: ImagesReference | None) -> None:
        """Take a data set that the driver has read; None if it could not read it."""
        self._images.offer(name, images)

    async def worker_started(self, number: int) -> None:
        """Hear from a worker that its process is there."""
        self._pool.worker_started(number)

    async def progress(self, key: str, step: int, steps: int, metrics: dict[str, float]) -> None:
        """Take note of how far a job is, for displays."""
        self._activity.progress(key, step, steps, metrics)

    async def snapshot(self) -> Snapshot:
        """Describe what is done and what is running, for a display."""
        return self._activity.snapshot()

    async def stop(self, reason: str, grace_s: float) -> None:
        """Start no more jobs, have those at work save where they stand, and give up those that do not within `grace_s`.

        Trials that are under way end without an outcome; the ledger holds them as begun.
        """
        self._stopping.set()
        at_work = [self._tasks[key] for key in self._activity.at_work()]
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
        self._activity.wait(job)
        try:
            await asyncio.gather(*(self._finish(by_key[key], by_key) for key in job.inputs.values()))
        finally:
            self._activity.wait_no_more(job)
        if all(map(self._recorder.is_done, job.inputs.values())):
            await self._run_with_retries(job, by_key)

    async def _run_with_retries(self, job: PlannedJob, by_key: dict[str, PlannedJob]) -> None:
        """Run a job until it is done or there is no point in trying again."""
        attempt, input_recomputed = Attempt.begin(self._sizer.size(job)), False
        while (failure := await self._attempts.run(job, attempt)) is not None:
            if failure.damaged_input is not None and not input_recomputed:
                input_recomputed = True
                await self._recompute(failure.damaged_input, by_key)
                continue
            following = attempt.next_after(failure.cause)
            if following is None:
                self._recorder.fail_job(job, attempt.explain(failure), cause=failure.cause)
                return
            self._recorder.retry_job(job, failure.message, cause=failure.cause)
            if failure.cause == "storage":
                await self._gate.shut_until_there_is_room(job.shape)
            attempt = following

    async def _recompute(self, damage: DamagedArtifact, by_key: dict[str, PlannedJob]) -> None:
        """Set a damaged artifact aside and run its job again."""
        self._recorder.set_aside(damage)
        self._tasks.pop(damage.key, None)
        await self._finish(by_key[damage.key], by_key)


BrokerActor = ray.remote(Broker)
