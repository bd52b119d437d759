"""The record of a session: which jobs and trials are done or failed, and what the ledger says of them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from statistics import fmean
from typing import Any, Protocol

from orchestrator.errors import DamagedArtifact
from orchestrator.executors.snapshot import NodeUse, RunningJob, Snapshot, Tally, WaitingJob, group_of
from orchestrator.placement.nodes import Request
from orchestrator.planning.code import CODE, Currency
from orchestrator.planning.graph import PlannedJob, TrialPlan
from orchestrator.store.artifacts import ArtifactStore, Facts


class AppendEvent(Protocol):
    """Records an event with its facts, as `Ledger.append` does."""

    def __call__(self, event: str, **facts: Any) -> object: ...


logger = logging.getLogger(__name__)


class SessionRecorder:
    """Knows which jobs of a session are in the store or have failed, and tells the ledger of all that happens."""

    def __init__(self, store: ArtifactStore, append: AppendEvent, accepted: Collection[str] = ()) -> None:
        """`accepted` are changed files whose old results are used, as `Currency` takes them."""
        self._store, self._append = store, append
        self._currency = Currency(self._facts_of, accepted)
        self._jobs: dict[str, PlannedJob] = {}
        self._trials: dict[str, str] = {}
        self._facts: dict[str, Facts] = {}
        self._outdated: set[str] = set()
        self._done: set[str] = set()
        self._run: set[str] = set()
        self._tallies: dict[str, Tally] = {}
        self._cached: set[str] = set()
        self._trials_done: set[str] = set()
        self._trials_failed: set[str] = set()
        self.errors: dict[str, str] = {}
        """Why each failed job failed, by its key."""

    def expect(self, jobs: Iterable[PlannedJob]) -> None:
        """Learn of jobs before it is asked whether they are done, so that results of other code are not taken."""
        self._jobs.update({job.key: job for job in jobs})

    def is_done(self, key: str) -> bool:
        """True if a job's artifact is in the store, undamaged and made by this code; a damaged one is set aside."""
        if key in self._done:
            return True
        try:
            is_stored = self._store.verified(key) is not None
        except DamagedArtifact as damage:
            self.set_aside(damage)
            return False
        if not is_stored or self._is_outdated(key):
            return False
        self._done.add(key)
        self._cached.add(key)
        self._count(self._jobs.get(key))
        return True

    def missing_inputs(self, job: PlannedJob) -> list[str]:
        """Kinds and keys of those inputs of a job that are not known to be done, without a look at the store."""
        missing = [key for key in dict.fromkeys(job.inputs.values()) if key not in self._done]
        return [f"{self._jobs[key].kind if key in self._jobs else 'job'} {key[:8]}" for key in missing]

    def _is_outdated(self, key: str) -> bool:
        """True if other code made a job's artifact, which the ledger is told of once; its job will replace it."""
        job = self._jobs.get(key)
        changes = self._currency.changes(job, self._jobs) if job is not None else frozenset()
        if changes and key not in self._outdated:
            self._outdated.add(key)
            self._append("artifact_outdated", key=key, changed=sorted(changes))
            logger.info("job %s runs again: %s changed", key[:12], ", ".join(sorted(changes)))
        return bool(changes)

    def _facts_of(self, key: str) -> Facts | None:
        """How the artifact of a job was made, read once for all that depends on it."""
        if key not in self._facts:
            try:
                manifest = self._store.manifest(key)
            except DamagedArtifact:
                return None
            if manifest is None:
                return None
            self._facts[key] = manifest.facts
        return self._facts[key]

    def set_aside(self, damage: DamagedArtifact) -> None:
        """Move a damaged artifact out of the way, so that its job runs again."""
        self._facts.pop(damage.key, None)
        self._done.discard(damage.key)
        self._cached.discard(damage.key)
        moved_to = self._store.set_aside(damage.key)
        self._append("artifact_damaged", key=damage.key, reason=damage.reason, moved_to=moved_to)
        logger.warning("%s; moved to %s", damage, moved_to)

    def is_cached(self, plan: TrialPlan) -> bool:
        """True if no job of the plan has to be run."""
        self.expect(plan.jobs)
        return all(self.is_done(job.key) for job in plan.jobs)

    def start_trial(self, plan: TrialPlan) -> None:
        """Record that a trial begins."""
        self.expect(plan.jobs)
        trial = plan.trial
        self._trials = {job.key: trial.id for job in plan.jobs} | self._trials
        logger.info("trial %s: started", trial.id)
        self._append(
            "trial_started",
            trial=trial.id,
            point=trial.point,
            params=dict(trial.params),
            seed=trial.seed,
            baseline=trial.baseline,
            stage=trial.stage,
        )

    def wait_job(self, job: PlannedJob, request: Request, reason: str) -> None:
        """Record that a job has a place, but that its worker cannot start there yet."""
        self._append("job_waits", key=job.key, kind=job.kind, request=vars(request), reason=reason)
        logger.info("%s: %s", self._in_words(job), reason)

    def start_job(self, job: PlannedJob, request: Request, **where: Any) -> None:
        """Record that a job begins with these resources; `where` are facts about the place, such as its node."""
        self._append("job_started", key=job.key, kind=job.kind, request=vars(request), **where)
        node = where.get("node", "")[:12]
        logger.info(
            "%s: started on node %s with %g CPUs, %g GPUs", self._in_words(job), node, request.cpus, request.gpus
        )

    def finish_job(self, job: PlannedJob, facts: Facts) -> None:
        """Record that a job's artifact is in the store, and how it was made."""
        told = {name: value for name, value in facts.items() if name != CODE}  # the manifest lists every module
        self._append("job_done", key=job.key, kind=job.kind, facts=told)
        self._facts[job.key] = facts
        self._done.add(job.key)
        self._run.add(job.key)
        self._count(job, facts.get("seconds"))
        logger.info("%s: done in %.1f s", self._in_words(job), facts.get("seconds", 0.0))

    def retry_job(self, job: PlannedJob, error: str, *, cause: str) -> None:
        """Record that a job failed and is tried again."""
        self._append("job_failed", key=job.key, kind=job.kind, error=error, cause=cause, final=False)
        logger.warning("%s: %s; tried again: %s", self._in_words(job), cause, error)

    def fail_job(self, job: PlannedJob, error: str, *, cause: str) -> None:
        """Record that a job failed for good."""
        self._append("job_failed", key=job.key, kind=job.kind, error=error, cause=cause, final=True)
        log = self._store.log(job.key)
        logger.error("%s: failed: %s: %s%s", self._in_words(job), cause, error, f"; log: {log}" if log else "")
        self.errors[job.key] = f"{job.kind} {job.key[:12]}: {error}"
        self._count(job)

    def stop_job(self, job: PlannedJob) -> None:
        """Record that a job ended before it was done, since the run is asked to end."""
        self._append("job_stopped", key=job.key, kind=job.kind)
        logger.info("%s: stopped", self._in_words(job))

    def see_node(self, event: str, id: str, host: str) -> None:
        """Record that a node has joined or left."""
        self._append(event, node=id, host=host)
        logger.info("node %s (%s) has %s", host, id[:12], event.removeprefix("node_"))

    def stop_sweep(self, reason: str) -> None:
        """Record that the run ends before it is done."""
        self._append("sweep_stopped", reason=reason)
        logger.info("the run is stopped: %s", reason)

    def finish_trial(self, plan: TrialPlan) -> dict[str, float] | None:
        """Record how a trial ended; returns its results by name, or None if one of its jobs failed."""
        errors = [self.errors[job.key] for job in plan.jobs if job.key in self.errors]
        if errors:
            self._append("trial_failed", trial=plan.trial.id, error=errors[0])
            self._trials_failed.add(plan.trial.id)
            logger.error("trial %s: failed: %s", plan.trial.id, errors[0])
            return None
        metrics = trial_metrics(plan, self._store)
        self._append("trial_done", trial=plan.trial.id, metrics=metrics)
        self._trials_done.add(plan.trial.id)
        logger.info("trial %s: done", plan.trial.id)
        return metrics

    def _in_words(self, job: PlannedJob) -> str:
        """The job as lines of the log begin with it: its kind, its key, and the first trial that asked for it."""
        return f"job {job.kind} {job.key[:12]} of trial {self._trials.get(job.key, 'to come')}"

    def _count(self, job: PlannedJob | None, seconds: float | None = None) -> None:
        """Count a job that is over; `seconds` is how long it took, if it was run."""
        if job is not None:
            one = Tally(1, int(seconds is not None), seconds or 0.0)
            self._tallies[group_of(job)] = self._tallies.get(group_of(job), Tally()) + one

    def snapshot(
        self,
        running: tuple[RunningJob, ...],
        waiting: tuple[WaitingJob, ...] = (),
        nodes: tuple[NodeUse, ...] = (),
        trouble: str = "",
    ) -> Snapshot:
        """Count what was recorded, for a display."""
        return Snapshot(
            jobs_run=len(self._run),
            jobs_cached=len(self._cached),
            jobs_failed=len(self.errors),
            trials_done=len(self._trials_done),
            trials_failed=len(self._trials_failed),
            running=running,
            waiting=waiting,
            nodes=nodes,
            trouble=trouble,
            tallies=dict(self._tallies),
        )


def trial_metrics(plan: TrialPlan, store: ArtifactStore) -> dict[str, float]:
    """Read every result of a finished trial, by its name: means over judges and priors.

    Raises:
        DamagedArtifact: if one cannot be read.
    """
    metrics: dict[str, float] = {}
    for prefix, keys in plan.measured().items():
        draws = [store.read_json(key, "metrics.json")["estimates"] for key in keys]
        metrics |= {f"{prefix}{name}": fmean(draw[name]["value"] for draw in draws) for name in draws[0]}
    return metrics
