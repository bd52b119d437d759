"""One sweep from its spec to its results: the run folder, the search, the executor, and what is published."""

from __future__ import annotations

import functools
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from orchestrator.errors import RequestError
from orchestrator.executors.base import Executor, Session
from orchestrator.executors.snapshot import Snapshot
from orchestrator.executors.stopping import Stop
from orchestrator.planning.code import Currency, changed_jobs
from orchestrator.planning.graph import Trial, TrialPlan
from orchestrator.planning.plan import data_inputs, plan
from orchestrator.planning.search import Search
from orchestrator.planning.volume import bytes_to_write
from orchestrator.results.cost import cost_of
from orchestrator.results.summary import summary
from orchestrator.results.sweep_result import SweepResult, collect
from orchestrator.spec.loading import read_resolved
from orchestrator.spec.model import ResolvedSpec
from orchestrator.store.artifacts import ArtifactStore, Facts
from orchestrator.store.ledger import LEDGER_PATIENCE_S, Ledger, RunState, run_state
from orchestrator.store.paths import RunPaths, Workspace
from orchestrator.store.room import check_room
from workloads.core.files import write_atomically

TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
"""MLflow's variable for its server or database, which counts where a spec names none."""


@dataclass(frozen=True)
class Sweep:
    """A resolved spec with the folders of its results."""

    resolved: ResolvedSpec
    workspace: Workspace
    """The folder of runs, with the store that they share."""
    folder: Path | None = None
    """Run folder it was reopened from; derived from the spec if None."""

    @staticmethod
    def of(resolved: ResolvedSpec, runs: Path | None) -> Sweep:
        """The sweep of a spec in the folder `runs`; if None, in that of MIDRE_RUNS, else of the spec, else ./runs."""
        return Sweep(resolved, Workspace(runs_folder(runs, resolved.spec.storage.runs)))

    @staticmethod
    def reopened(folder: Path) -> Sweep:
        """The sweep of a run folder.

        Raises:
            RequestError: if this is not a run folder, or one from a version of midre that gave other keys.
            PluginError: if it needs a plug-in that is not installed in its version.
        """
        paths = RunPaths(folder)
        if not paths.resolved.is_file():
            raise RequestError(f"{folder}: not a run folder: it has no {paths.resolved.name}.")
        resolved = read_resolved(paths.resolved)
        original_id = run_state(paths.ledger).provenance.get("sweep", resolved.sweep)
        if original_id != resolved.sweep:
            raise RequestError(
                f"{folder}: was made as {original_id}, which is {resolved.sweep} now: a component has changed since. "
                "Read it with the midre it was made with, or run its spec again."
            )
        return Sweep(resolved, Workspace(folder.absolute().parent), folder.absolute())

    @property
    def id(self) -> str:
        """Name of the spec and a hash of everything that determines results."""
        return self.resolved.sweep

    @property
    def paths(self) -> RunPaths:
        """Where each file of the run lies."""
        return RunPaths(self.folder) if self.folder else self.workspace.run(self.id)

    @cached_property
    def store(self) -> ArtifactStore:
        """The artifact store that the spec names, or the one beside the runs; opening it creates its folder."""
        return ArtifactStore(self.resolved.spec.storage.artifacts or self.workspace.store)

    @property
    def mlflow_uri(self) -> str:
        """The MLflow server or database of the spec, else of MLFLOW_TRACKING_URI, else a file beside the runs."""
        return self._chosen_mlflow or self.workspace.mlflow_uri

    @property
    def _chosen_mlflow(self) -> str | None:
        return self.resolved.spec.tracking.uri or os.environ.get(TRACKING_VARIABLE) or None

    def state(self) -> RunState:
        """What the ledger says about trials and jobs so far."""
        return run_state(self.paths.ledger)

    def search(self) -> Search:
        """The search, continued from the trials that the ledger holds."""
        return Search(self.resolved.spec, self.state().trials.values())

    def plans(self) -> list[TrialPlan]:
        """Plans of the trials that are certain: those given out so far, all others unless the sampler learns, and those
        that confirm points of a search that has ended."""
        search = self.search()
        search.foresee()
        return [self._plan(search, trial) for trial in search.trials]

    def _plan(self, search: Search, trial: Trial) -> TrialPlan:
        """The plan of a trial, worked out once: tables are made from all plans every half minute."""
        if trial.id not in self._planned:
            self._planned[trial.id] = plan(self.resolved, trial, search.spec_of(trial))
        return replace(self._planned[trial.id], trial=trial)

    @cached_property
    def _planned(self) -> dict[str, TrialPlan]:
        return {}

    def first_plan(self) -> TrialPlan | None:
        """The plan of the first trial, to see what its jobs need; it leaves out the digests of their code."""
        search = Search(self.resolved.spec)
        trial = search.next()
        return None if trial is None else plan(self.resolved, trial, search.spec_of(trial), with_code=False)

    def changed(self, accepted: Collection[str] = ()) -> dict[str, frozenset[str]]:
        """Keys of the jobs that run again because of each module that changed since the store's artifacts were made.

        Args:
            accepted: changed files whose old results are used all the same, such as `random_erasing`.
        """
        if not self.resolved.spec.storage.artifacts and not self.workspace.store.exists():
            return {}  # opening the store would create it
        jobs = {job.key: job for plan in self.plans() for job in plan.jobs}
        return changed_jobs(jobs, Currency(functools.cache(self._facts_of), accepted))

    def check_room(self) -> None:
        """Make sure that the store takes what the jobs that are not done will write, as far as it is known.

        Raises:
            RequestError: with what is missing.
            StoreUnavailable: if it cannot be reached or written to.
        """
        needed = bytes_to_write({job.key: job for plan in self.plans() for job in plan.jobs}.values(), self.store)
        if needed is not None:
            check_room(self.store, needed)

    def _facts_of(self, key: str) -> Facts | None:
        manifest = self.store.manifest(key)
        return None if manifest is None else manifest.facts

    def run(
        self,
        executor: Executor,
        *,
        spec_file: Path | None,
        accepted_changes: Sequence[str] = (),
        announce: Callable[[str], None] = lambda text: None,
        stop: Stop | None = None,
    ) -> Snapshot:
        """Run or continue the sweep; finished work is not done again. Returns what was done in this process.

        Args:
            spec_file: is copied into the run folder.
            accepted_changes: changed files whose old results are used all the same, such as `random_erasing`.
            announce: tells the user in a line what takes long.
            stop: asks the run to end before it is done; by default nothing does.
        """
        self._prepare(spec_file, type(executor).__name__)
        search = self.search()

        every_s = self.resolved.spec.storage.checkpoint_every_s
        data = data_inputs(self.resolved, self.resolved.spec)
        executor.run(
            Session(
                search,
                partial(self._plan, search),
                self.store,
                self.paths.ledger,
                every_s,
                self.plans,
                data=data,
                announce=announce,
                stop=stop or Stop(self.resolved.spec.storage.grace_s),
                accepted_changes=accepted_changes,
            )
        )
        return executor.snapshot()

    def result(self) -> SweepResult:
        """Collect the results so far from ledger and store."""
        return collect(self.resolved, self.plans(), self.state(), self.store)

    def publish(self, result: SweepResult, *, seconds: float, jobs: dict[str, int]) -> dict[str, Any]:
        """Write tables, report and summary of a result, over those of earlier runs. Returns the summary.

        Args:
            seconds: how long the command took.
            jobs: number of jobs that were run, cached and failed.
        """
        from orchestrator.reports.html import write_report  # matplotlib is heavy, and `midre plan` does not need it
        from orchestrator.results.parquet_tables import write_tables

        cost = cost_of(self.state().jobs_done.values())
        shape = summary(result, run=str(self.paths.root), seconds=round(seconds, 3), jobs=jobs, cost=cost)
        write_atomically(self.paths.summary, json.dumps(shape, indent=1).encode())
        write_tables(result, self.paths)
        write_report(result, self.store, self.paths, cost=cost)
        return shape

    def sync(
        self,
        result: SweepResult | None = None,
        *,
        at_work: bool = False,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> int:
        """Send to MLflow what it lacks of the results so far. Returns the number of runs that were written there.

        Args:
            result: what to send, if it is collected already.
            at_work: whether a process runs the sweep now.
            is_wanted: whether anybody still waits for it; it is given up if not.

        Raises:
            TrackingRefused: if MLflow will never take it as things are.
            TrackingUnavailable: if MLflow cannot be reached.
        """
        from orchestrator.tracking.export import Source, export  # MLflow is heavy

        tracking = self.resolved.spec.tracking
        source = Source(
            result=self.result if result is None else lambda: result,
            state=self.state(),
            store=self.store,
            paths=self.paths,
            sweep=self.id,
            at_work=at_work,
            jobs=tracking.jobs,
            is_wanted=is_wanted,
        )
        location = None if self._chosen_mlflow else self.workspace.mlflow_artifacts.as_uri()
        return export(source, uri=self.mlflow_uri, experiment=tracking.experiment, artifact_location=location)

    def check_tracking(self) -> None:
        """Ask MLflow whether it will take results.

        Raises:
            TrackingRefused: if it never will as things are.
            TrackingUnavailable: if it cannot be reached now.
        """
        exists = self._chosen_mlflow or self.workspace.mlflow_database.exists()
        if self.resolved.spec.tracking.enabled and exists:
            from orchestrator.tracking.client import check_experiment  # MLflow is heavy

            check_experiment(self.mlflow_uri, self.resolved.spec.tracking.experiment)

    def _prepare(self, spec_file: Path | None, executor: str) -> None:
        """Create the run folder and record the start in its ledger."""
        self.paths.root.mkdir(parents=True, exist_ok=True)
        with Ledger(self.paths.ledger, patience_s=LEDGER_PATIENCE_S) as ledger:  # fails while another process runs it
            if spec_file is not None and not self.paths.spec.exists():
                shutil.copyfile(spec_file, self.paths.spec)
            resolved = json.dumps(self.resolved.model_dump(mode="json"), indent=1)
            write_atomically(self.paths.resolved, resolved.encode())
            ledger.append("sweep_started", sweep=self.id, executor=executor, **provenance())


def runs_folder(option: Path | None, of_spec: str | None = None) -> Path:
    """The folder of runs: that of a command's option, else of MIDRE_RUNS, else of a spec, else ./runs."""
    return Path(option or os.environ.get("MIDRE_RUNS") or of_spec or "runs").absolute()


def provenance() -> dict[str, Any]:
    """Versions, commit, process and time: what the numbers of this process depend on."""
    return {
        "midre": version("midre"),
        "torch": version("torch"),
        "ray": version("ray"),
        "python": platform.python_version(),
        "git_commit": git_commit(),
        "pid": os.getpid(),
        "started_at": time.time(),
    }


def git_commit() -> str | None:
    """Commit of the checkout that holds this code, with `-dirty` if the code differs from it; None outside of one.

    A repository that merely surrounds an installed package does not hold it.
    """
    here = Path(__file__).parent
    try:
        _git(here, "ls-files", "--error-unmatch", Path(__file__).name)
        commit, changed = _git(here, "rev-parse", "HEAD"), _git(here, "status", "--porcelain", ".", "../workloads")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changed else commit


def _git(folder: Path, *command: str) -> str:
    command = ("git", "-C", str(folder), *command)
    return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
