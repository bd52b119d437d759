"""Export to MLflow, from ledger and store: the only file that imports it. Replaying an export changes nothing."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Read when mlflow is imported: no telemetry, no chatter, and an unreachable server costs seconds, not minutes.
for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}.items():
    os.environ.setdefault(_name, _value)

from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.tracking import MlflowClient  # noqa: E402
from sqlalchemy.exc import SQLAlchemyError  # noqa: E402

from orchestrator.errors import TrackingUnavailable  # noqa: E402
from orchestrator.planning.graph import TrialPlan  # noqa: E402
from orchestrator.results.sweep_result import SweepResult, TrialResult  # noqa: E402
from orchestrator.store.artifacts import ArtifactStore, Manifest  # noqa: E402
from orchestrator.store.ledger import RunState  # noqa: E402
from orchestrator.store.paths import RunPaths, without_password  # noqa: E402

BATCH = 1000
"""Metrics in one request: the server's limit."""
REFUSALS = (MlflowException, OSError, ImportError, SQLAlchemyError)
"""What comes of a server or database that is not there, says no, or whose driver is not installed."""


def export(
    result: SweepResult,
    state: RunState,
    store: ArtifactStore,
    paths: RunPaths,
    *,
    uri: str,
    experiment: str,
    artifact_location: str | None = None,
) -> None:
    """Bring MLflow up to date: a run for the sweep, one in it for each trial, one in that for each of its jobs.

    Runs are known by tags and points carry the times they were made, so a second export adds nothing.

    Raises:
        TrackingUnavailable: if the server cannot be reached or refuses.
    """
    try:
        _Export(MlflowClient(uri), result, state, store, paths).run(experiment, artifact_location)
    except REFUSALS as error:
        raise TrackingUnavailable(
            f"MLflow at {without_password(uri)} cannot be written to: {_reason(error)}"
        ) from error


def download_run(run: str, *, uri: str, folder: Path) -> None:
    """Put resolved spec and summary of the sweep that an MLflow run belongs to into `folder`.

    Raises:
        TrackingUnavailable: if the server does not answer, or has no such run of ours.
    """
    try:
        client = MlflowClient(uri)
        while parent := client.get_run(run).data.tags.get("mlflow.parentRunId"):
            run = parent
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("resolved.json", "summary.json"):
            client.download_artifacts(run, name, str(folder))
    except REFUSALS as error:
        raise TrackingUnavailable(
            f"MLflow at {without_password(uri)} has no run {run} of ours: {_reason(error)}"
        ) from error


@dataclass
class _Export:
    client: MlflowClient
    result: SweepResult
    state: RunState
    store: ArtifactStore
    paths: RunPaths

    def run(self, experiment: str, artifact_location: str | None) -> None:
        self._experiment = self._experiment_id(experiment, artifact_location)
        self._runs = self._known_runs()
        sweep = self.result.resolved.sweep
        parent = self._run_id(sweep, sweep, None, started=self.state.started_at)
        description = self.result.resolved.spec.description
        facts = {"mlflow.note.content": description, "midre.git_commit": self._provenance("git_commit")}
        self._tags(parent, {**facts, **_versions()})
        self._inputs(parent)
        for trial in self.result.trials:
            if trial.status in ("done", "failed"):
                self._trial(trial, f"{sweep}/{trial.id}", parent)
        for file in (self.paths.spec, self.paths.resolved, self.paths.summary, self.paths.frontier, self.paths.report):
            if file.exists():
                self.client.log_artifact(parent, str(file))
        if all(trial.status in ("done", "failed") for trial in self.result.trials):
            self._end(parent, "FINISHED", self.state.updated_at)

    def _trial(self, trial: TrialResult, name: str, parent: str) -> None:
        known = self._runs.get(name)
        if known and known[1] == trial.status:
            return
        run = self._run_id(name, trial.id, parent)
        plan = trial.plan
        # Where defenses themselves are searched, their kinds alone would not tell points apart.
        kinds = {"defenses": ", ".join(plan.defenses) or "none"}
        params = {**kinds, **plan.trial.params, "seed": plan.trial.seed}
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in params.items()}
        self.client.log_batch(run, params=[Param(_name_of(key), text) for key, text in texts.items()])
        ended = max(self._finished_at(plan), default=0.0)
        metrics = [
            Metric(_name_of(f"{full}{suffix}"), estimate[bound], int(ended * 1000), 0)
            for full, estimate in trial.estimates().items()
            for suffix, bound in (("", "value"), (".low", "low"), (".high", "high"))
        ]
        self._metrics(run, metrics)
        for role, key in plan.keys.named().items():
            manifest = self.store.manifest(key)
            if manifest is not None:
                self._job(f"{name}/{role}", role, manifest, run)
        self._tags(run, {"midre.status": trial.status, "midre.error": trial.error[:5000]})
        self._end(run, "FINISHED" if trial.status == "done" else "FAILED", ended or None)

    def _job(self, name: str, role: str, manifest: Manifest, parent: str) -> None:
        finished, seconds = manifest.facts["finished_at"], manifest.facts["seconds"]
        run = self._run_id(name, role, parent, started=finished - seconds)
        if "history.json" in manifest.files:
            history = self.store.read_json(manifest.key, "history.json")
            self._metrics(run, [metric for row in history for metric in _points(row)])
        described = {
            "key": manifest.key,
            "kind": manifest.kind,
            "location": self.store.location(manifest),
            "sha256": manifest.digest(),
            "files": {file: vars(own) for file, own in manifest.files.items()},
            "facts": dict(manifest.facts),
        }
        with tempfile.TemporaryDirectory(prefix="midre-") as folder:
            file = Path(folder) / "manifest.json"
            file.write_text(json.dumps(described, indent=1, sort_keys=True), encoding="utf-8")
            self.client.log_artifact(run, str(file))
        pictures = [name for name in manifest.files if name.endswith(".png")]
        for picture in pictures:
            self.client.log_artifact(run, str(self.store.open(manifest.key) / picture))
        self._end(run, "FINISHED", finished)

    def _experiment_id(self, name: str, artifact_location: str | None) -> str:
        known = self.client.get_experiment_by_name(name)
        return known.experiment_id if known else self.client.create_experiment(name, artifact_location)

    def _known_runs(self) -> dict[str, tuple[str, str]]:
        """Run id and status by our own identity, of every run of this sweep."""
        found: dict[str, tuple[str, str]] = {}
        page: str | None = None
        query = f"tags.`midre.sweep` = '{self.result.resolved.sweep}'"
        while True:
            runs = self.client.search_runs([self._experiment], query, max_results=1000, page_token=page)
            for run in runs:
                found[run.data.tags["midre.id"]] = (run.info.run_id, run.data.tags.get("midre.status", ""))
            page = runs.token
            if not page:
                return found

    def _run_id(self, identity: str, name: str, parent: str | None, *, started: float | None = None) -> str:
        if identity in self._runs:
            return self._runs[identity][0]
        tags = {"midre.id": identity, "midre.sweep": self.result.resolved.sweep}
        if parent:
            tags["mlflow.parentRunId"] = parent
        start = int(started * 1000) if started else None
        run = self.client.create_run(self._experiment, start_time=start, tags=tags, run_name=name)
        self._runs[identity] = (run.info.run_id, "")
        return str(run.info.run_id)

    def _inputs(self, run: str) -> None:
        resolved = self.result.resolved
        known = self.client.get_run(run).inputs
        if known and known.dataset_inputs:
            return
        for role, digest in (("private", resolved.private_digest), ("public", resolved.public_digest)):
            config = getattr(resolved.spec.data, role)
            dataset = Dataset(f"{role}: {config.kind}", digest[:32], "local", config.model_dump_json())
            self.client.log_inputs(run, datasets=[DatasetInput(dataset)])

    def _metrics(self, run: str, metrics: list[Metric]) -> None:
        for start in range(0, len(metrics), BATCH):
            self.client.log_batch(run, metrics=metrics[start : start + BATCH])

    def _tags(self, run: str, tags: Mapping[str, str]) -> None:
        self.client.log_batch(run, tags=[RunTag(key, value) for key, value in tags.items() if value])

    def _end(self, run: str, status: str, ended: float | None) -> None:
        self.client.set_terminated(run, status, int(ended * 1000) if ended else None)

    def _finished_at(self, plan: TrialPlan) -> Iterator[float]:
        for job in plan.jobs:
            manifest = self.store.manifest(job.key)
            if manifest is not None:
                yield float(manifest.facts["finished_at"])

    def _provenance(self, name: str) -> str:
        return str(self.state.provenance.get(name) or "")


def _reason(error: Exception) -> str:
    """Its first line, without what a URI in it may hold."""
    return without_password(str(error).partition("\n")[0])[:200]


def _points(row: Mapping[str, Any]) -> Iterator[Metric]:
    for name, value in row["metrics"].items():
        yield Metric(_name_of(name), value, int(row["time"] * 1000), row["step"])


def _name_of(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_./ -]", "_", name)


def _versions() -> dict[str, str]:
    return {f"midre.version.{package}": version(package) for package in ("midre", "torch", "ray", "mlflow")}
