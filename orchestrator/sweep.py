"""One sweep from its spec to its results: the run folder, the search, the executor, and what is left at the end."""

from __future__ import annotations

import functools
import json
import logging
import os
import platform
import shutil
import subprocess
import time
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from orchestrator.errors import RequestError
from orchestrator.executors.base import Executor, Session, Snapshot
from orchestrator.planning.graph import TrialPlan
from orchestrator.planning.plan import plan
from orchestrator.results.sweep_result import SweepResult, collect, summary
from orchestrator.search.search import Search
from orchestrator.spec.model import ResolvedSpec
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.ledger import LEDGER_PATIENCE_S, Ledger, RunState, run_state
from orchestrator.store.paths import RunPaths, Workspace
from workloads.core.files import write_atomically

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sweep:
    """A resolved spec with the places its results lie."""

    resolved: ResolvedSpec
    workspace: Workspace
    folder: Path | None = None
    """Of the run, where it was opened from one; else it follows from the spec."""

    @staticmethod
    def of(resolved: ResolvedSpec, runs: Path | None) -> Sweep:
        """Results lie where the command says, or MIDRE_RUNS, or the spec, or in ./runs."""
        return Sweep(resolved, Workspace(runs_folder(runs, resolved.spec.storage.runs)))

    @staticmethod
    def reopened(folder: Path) -> Sweep:
        """The sweep whose run folder this is.

        Raises:
            RequestError: if it is none, or was made by a version of midre that gave other keys.
        """
        paths = RunPaths(folder)
        if not paths.resolved.is_file():
            raise RequestError(f"{folder}: not a run folder: it has no {paths.resolved.name}.")
        resolved = ResolvedSpec.model_validate_json(paths.resolved.read_text(encoding="utf-8"))
        made_as = run_state(paths.ledger).provenance.get("sweep", resolved.sweep)
        if made_as != resolved.sweep:
            raise RequestError(
                f"{folder}: was made as {made_as}, which is {resolved.sweep} now: a component has changed since. "
                "Read it with the midre it was made with, or run its spec again."
            )
        return Sweep(resolved, Workspace(folder.absolute().parent), folder.absolute())

    @property
    def id(self) -> str:
        return self.resolved.sweep

    @property
    def paths(self) -> RunPaths:
        return RunPaths(self.folder) if self.folder else self.workspace.run(self.id)

    @cached_property
    def store(self) -> ArtifactStore:
        return ArtifactStore(self.resolved.spec.storage.artifacts or self.workspace.store)

    @property
    def mlflow_uri(self) -> str:
        return self.resolved.spec.tracking.uri or self.workspace.mlflow_uri

    def state(self) -> RunState:
        return run_state(self.paths.ledger)

    def search(self) -> Search:
        """The search, knowing all that earlier lives of this sweep have asked."""
        return Search(self.resolved.spec, self.state().trials.values())

    def plans(self) -> list[TrialPlan]:
        """Plans of every trial that can be known now: asked already, or sure to be asked."""
        search = self.search()
        if self.resolved.spec.search.sampler.kind != "tpe":
            while search.next() is not None:
                pass
        return [plan(self.resolved, trial) for trial in search.trials]

    def run(self, executor: Executor, *, spec_file: Path | None) -> Snapshot:
        """Run or continue the sweep; what is finished stands. What was done in this life of it."""
        self._prepare(spec_file, type(executor).__name__)
        plan_of = functools.partial(plan, self.resolved)
        every_s = self.resolved.spec.storage.checkpoint_every_s
        executor.run(Session(self.search(), plan_of, self.store, self.paths.ledger, every_s, self.plans))
        return executor.snapshot()

    def result(self) -> SweepResult:
        return collect(self.resolved, self.plans(), self.state(), self.store)

    def publish(self, *, seconds: float, jobs: dict[str, int]) -> dict[str, Any]:
        """Write tables, report and summary anew from ledger and store; the summary."""
        from orchestrator.reports.html import write_report  # matplotlib
        from orchestrator.results.parquet_tables import write_tables

        result = self.result()
        shape = summary(result, run=str(self.paths.root), seconds=round(seconds, 3), jobs=jobs)
        write_atomically(self.paths.summary, json.dumps(shape, indent=1).encode())
        write_tables(result, self.paths)
        write_report(result, self.store, self.paths)
        return shape

    def sync(self) -> None:
        """Bring MLflow up to what ledger and store say.

        Raises:
            TrackingUnavailable: if it cannot be reached.
        """
        from orchestrator.tracking.mlflow import export

        tracking = self.resolved.spec.tracking
        location = None if tracking.uri else self.workspace.mlflow_artifacts.as_uri()
        export(
            self.result(),
            self.state(),
            self.store,
            self.paths,
            uri=self.mlflow_uri,
            experiment=tracking.experiment,
            artifact_location=location,
        )

    def _prepare(self, spec_file: Path | None, executor: str) -> None:
        """Make the run folder and note who begins."""
        self.paths.root.mkdir(parents=True, exist_ok=True)
        with Ledger(self.paths.ledger, patience_s=LEDGER_PATIENCE_S) as ledger:  # else it is somebody else's folder
            if spec_file is not None and not self.paths.spec.exists():
                shutil.copyfile(spec_file, self.paths.spec)
            resolved = json.dumps(self.resolved.model_dump(mode="json"), indent=1)
            write_atomically(self.paths.resolved, resolved.encode())
            ledger.append("sweep_started", sweep=self.id, executor=executor, **provenance())


def runs_folder(asked: Path | None, by_spec: str | None = None) -> Path:
    """Where runs lie: as a command says, or MIDRE_RUNS, or a spec, or ./runs."""
    return Path(asked or os.environ.get("MIDRE_RUNS") or by_spec or "runs").absolute()


def provenance() -> dict[str, Any]:
    """What the numbers of this process are made with."""
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
    """Commit of the checkout that holds this code, `-dirty` where the code differs from it; None where none does.

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
    found = subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True, timeout=5, check=True)
    return found.stdout.strip()
