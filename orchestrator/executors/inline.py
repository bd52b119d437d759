"""Run everything in this process, one job after another: for a debugger, and for machines without Ray."""

from __future__ import annotations

import functools
import logging
import time
import traceback
from dataclasses import replace

from orchestrator.errors import DamagedArtifact
from orchestrator.executors.base import Book, Executor, RunningJob, Session, Snapshot
from orchestrator.planning.graph import PlannedJob, TrialPlan
from orchestrator.store.ledger import LEDGER_PATIENCE_S, Ledger
from workloads.context import Progress

logger = logging.getLogger(__name__)


class InlineExecutor(Executor):
    """Trials in the order of the search; a job that fails does not keep the others from running."""

    def __init__(self) -> None:
        self._book: Book | None = None
        self._running: RunningJob | None = None

    def run(self, session: Session) -> None:
        with Ledger(session.ledger, patience_s=LEDGER_PATIENCE_S) as ledger:
            self._book = book = Book(session.store, ledger.append)
            while (trial := session.search.next()) is not None:
                plan = session.plan(trial)
                book.start_trial(plan)
                self._run_jobs(plan, session, book)
                session.search.finish(trial.id, book.finish_trial(plan))

    def snapshot(self) -> Snapshot:
        running = (self._running,) if self._running else ()
        return self._book.snapshot(running) if self._book else Snapshot()

    def _run_jobs(self, plan: TrialPlan, session: Session, book: Book) -> None:
        by_key = {job.key: job for job in plan.jobs}
        for job in plan.jobs:
            if job.key in book.failed or book.has(job.key) or not all(map(book.has, job.inputs.values())):
                continue
            try:
                self._run(job, session, book)
            except DamagedArtifact as damage:  # an input went bad since it was checked: make it again, once
                book.set_aside(damage)
                self._run(by_key[damage.key], session, book)
                self._run(job, session, book)

    def _run(self, job: PlannedJob, session: Session, book: Book) -> None:
        from orchestrator.executors.running import device_for, run_job  # imports torch

        self._running = RunningJob(job.key, job.kind, time.time())
        device = device_for(job.request.gpus)
        book.start_job(job, node="inline")
        try:
            manifest = run_job(
                job,
                session.store,
                load_images=_cached_images(),
                on_progress=self._progress,
                device=device,
                where={"node": "inline"},
                checkpoint_every_s=session.checkpoint_every_s,
            )
        except DamagedArtifact:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a job's code raises is that job's failure, recorded in full
            logger.error("job %s %s failed\n%s", job.kind, job.key[:12], traceback.format_exc())
            book.fail_job(job, f"{type(error).__name__}: {error}", cause="code")
        else:
            book.finish_job(job, manifest.facts)
        finally:
            self._running = None

    def _progress(self, progress: Progress) -> None:
        if self._running:
            self._running = replace(
                self._running, step=progress.step, steps=progress.steps, metrics=dict(progress.metrics)
            )


@functools.cache
def _cached_images() -> functools._lru_cache_wrapper:  # type: ignore[type-arg]
    """`read_images` that keeps the last few data sets, so that a sweep reads each once."""
    from orchestrator.executors.running import read_images

    return functools.lru_cache(maxsize=4)(read_images)
