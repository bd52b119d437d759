"""Run everything in this process, one job after another: for a debugger, and for machines without Ray."""

from __future__ import annotations

import functools
import platform
import time
from collections.abc import Callable
from dataclasses import replace

from orchestrator.errors import DamagedArtifact, StoreUnavailable
from orchestrator.executors.base import Executor, Session
from orchestrator.executors.failures import Attempt, Failure, failure_of
from orchestrator.executors.recorder import SessionRecorder
from orchestrator.executors.run_job import device_for, read_images, run_job
from orchestrator.executors.sizer import Sizer
from orchestrator.executors.snapshot import RunningJob, Snapshot
from orchestrator.executors.time_limit import time_limit
from orchestrator.placement.machine import this_machine
from orchestrator.placement.sizing import Sized
from orchestrator.planning.graph import PlannedJob, TrialPlan
from orchestrator.store.leases import Leases
from orchestrator.store.ledger import LEDGER_PATIENCE_S, Ledger
from orchestrator.store.owners import Owner
from orchestrator.store.room import NO_JOB_BEGINS, bytes_of, want_of_room
from workloads.context import DataInput, Progress
from workloads.core.errors import JobStopped
from workloads.datasets.base import ImageSet

LOOK_FOR_OTHERS_EVERY_S = 1.0
LOOK_FOR_ROOM_EVERY_S = 5.0


class InlineExecutor(Executor):
    """Runs trials in the order of the search; a job that fails does not keep the others from running."""

    def __init__(self) -> None:
        self._recorder: SessionRecorder | None = None
        self._running: RunningJob | None = None
        self._trouble = ""
        self._sizer: Sizer
        self._leases: Leases

    def run(self, session: Session) -> None:
        """Run trial after trial in this process."""
        with Ledger(session.ledger, patience_s=LEDGER_PATIENCE_S) as ledger:
            self._recorder = recorder = SessionRecorder(session.store, ledger.append, session.accepted_changes)
            nodes = (this_machine(),)
            self._leases = Leases(session.store.files, Owner.this_process())
            over = self._leases.keep_renewed()
            self._sizer = Sizer(session.store.latest_of, lambda: nodes)
            try:
                with session.stop.cutting_short():
                    self._run_trials(session, recorder)
            except JobStopped:
                recorder.stop_sweep(session.stop.reason)
            finally:
                over.set()

    def snapshot(self) -> Snapshot:
        """The one job that runs, and what is done."""
        running = (self._running,) if self._running else ()
        return self._recorder.snapshot(running, trouble=self._trouble) if self._recorder else Snapshot()

    def _run_trials(self, session: Session, recorder: SessionRecorder) -> None:
        while (trial := session.search.next()) is not None:
            plan = session.plan(trial)
            recorder.start_trial(plan)
            self._run_jobs(plan, session, recorder)
            session.search.finish(trial.id, recorder.finish_trial(plan))

    def _run_jobs(self, plan: TrialPlan, session: Session, recorder: SessionRecorder) -> None:
        by_key = {job.key: job for job in plan.jobs}
        for job in plan.jobs:
            if job.key in recorder.errors or recorder.is_done(job.key):
                continue
            if not all(map(recorder.is_done, job.inputs.values())):
                continue
            if session.stop.is_requested:
                raise JobStopped("asked to end between two jobs")
            try:
                self._run(job, session, recorder)
            except DamagedArtifact as damage:  # an input went bad since it was checked: make it again, once
                recorder.set_aside(damage)
                self._run(by_key[damage.key], session, recorder)
                self._run(job, session, recorder)

    def _run(self, job: PlannedJob, session: Session, recorder: SessionRecorder) -> None:
        """Run a job, again only if its results could not be written."""
        attempt = Attempt.begin(self._sizer.size(job))
        while (failure := self._attempt_alone(job, attempt.first, session, recorder)) is not None:
            following = attempt.next_after(failure.cause) if failure.cause == "storage" else None
            if following is None:
                recorder.fail_job(job, failure.message, cause=failure.cause)
                return
            recorder.retry_job(job, failure.message, cause=failure.cause)
            self._wait_for_room(job, session)
            attempt = following

    def _attempt_alone(
        self, job: PlannedJob, sized: Sized, session: Session, recorder: SessionRecorder
    ) -> Failure | None:
        """Run a job once, unless a sweep of another process does: then wait for what comes of that."""
        reason = ""
        try:
            while holder := self._leases.take(job.key):
                if session.stop.is_requested:
                    raise JobStopped("asked to end while it waited for another process")
                if reason != (reason := f"is computed by {holder}"):
                    recorder.wait_job(job, sized.request, reason)
                time.sleep(LOOK_FOR_OTHERS_EVERY_S)
            return None if recorder.is_done(job.key) else self._attempt(job, sized, session, recorder)
        except StoreUnavailable as error:
            return failure_of(error)
        finally:
            self._leases.release(job.key)

    def _wait_for_room(self, job: PlannedJob, session: Session) -> None:
        needed = bytes_of(session.store.latest_of(job.shape))
        while trouble := want_of_room(session.store, needed):
            if session.stop.is_requested:
                raise JobStopped("asked to end while it waited for room")
            self._trouble = f"{trouble} {NO_JOB_BEGINS}"
            time.sleep(LOOK_FOR_ROOM_EVERY_S)
        self._trouble = ""

    def _attempt(self, job: PlannedJob, sized: Sized, session: Session, recorder: SessionRecorder) -> Failure | None:
        """Run a job once; returns why it failed, or None if it is done."""
        self._running = RunningJob(job.key, job.kind, time.time(), node=platform.node())
        request, unused = sized.request, {"missing_gpu": sized.unused_gpu} if sized.unused_gpu else {}
        recorder.start_job(job, request, node="inline")
        try:
            with time_limit(job.needs.timeout_s):
                manifest = run_job(
                    job,
                    session.store,
                    request=request,
                    load_images=_cached_images(),
                    on_progress=self._progress,
                    device=device_for(request.gpus),
                    where={"node": "inline", **unused},
                    checkpoint_every_s=session.checkpoint_every_s,
                    should_stop=lambda: session.stop.is_requested,
                )
        except DamagedArtifact:
            raise
        except JobStopped:
            recorder.stop_job(job)
            raise
        except Exception as error:  # noqa: BLE001 - whatever a job's code raises is that job's failure, recorded in full
            return failure_of(error)
        else:
            self._sizer.learn(job, manifest.facts)
            recorder.finish_job(job, manifest.facts)
            return None
        finally:
            self._running = None

    def _progress(self, progress: Progress) -> None:
        if self._running:
            self._running = replace(
                self._running, step=progress.step, steps=progress.steps, metrics=dict(progress.metrics)
            )


@functools.cache
def _cached_images() -> Callable[[DataInput], ImageSet]:
    """Make a `read_images` that keeps the last few data sets, so that a sweep reads each once."""
    return functools.lru_cache(maxsize=4)(read_images)
