"""Export to MLflow from ledger and store, the one module that imports it. A second export changes nothing."""

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
"""Errors of a server or database that is not there, refuses, or whose driver is not installed."""


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
    """Bring MLflow up to date: a run for the sweep, a run in it for each trial, a run in that for each of its jobs.

    Runs are recognised by their tags, and metrics carry the times at which they were made, so that a second export adds
    nothing.

    Raises:
        TrackingUnavailable: if the server cannot be reached or refuses.
    """
    try:
        client = MlflowClient(uri)
        experiment_id = _experiment_id(client, experiment, artifact_location)
        exporter = _Exporter(client, experiment_id, result, state, store, paths)
        exporter.export_sweep()
    except REFUSALS as error:
        raise TrackingUnavailable(
            f"MLflow at {without_password(uri)} cannot be written to: {_reason(error)}"
        ) from error


def download_run(run: str, *, uri: str, folder: Path) -> None:
    """Download the resolved spec and the summary of the sweep that an MLflow run belongs to into `folder`.

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


class _Exporter:
    """One export of one sweep, with the runs that MLflow has of it."""

    def __init__(
        self,
        client: MlflowClient,
        experiment: str,
        result: SweepResult,
        state: RunState,
        store: ArtifactStore,
        paths: RunPaths,
    ) -> None:
        self._client, self._experiment = client, experiment
        self._result, self._state, self._store, self._paths = result, state, store, paths
        self._runs = dict(self._existing_runs())

    def export_sweep(self) -> None:
        sweep, spec = self._result.resolved.sweep, self._result.resolved.spec
        run = self._run_id(sweep, sweep, None, started=self._state.started_at)
        commit = str(self._state.provenance.get("git_commit") or "")
        self._set_tags(run, {"mlflow.note.content": spec.description, "midre.git_commit": commit, **_versions()})
        self._log_datasets(run)
        ended = [trial for trial in self._result.trials if trial.status in ("done", "failed")]
        for trial in ended:
            self._export_trial(trial, f"{sweep}/{trial.id}", run)
        paths = self._paths
        for file in (paths.spec, paths.resolved, paths.summary, paths.frontier, paths.report):
            if file.exists():
                self._client.log_artifact(run, str(file))
        if len(ended) == len(self._result.trials):
            self._end_run(run, "FINISHED", self._state.updated_at)

    def _export_trial(self, trial: TrialResult, identity: str, parent: str) -> None:
        existing = self._runs.get(identity)
        if existing and existing.status == trial.status:
            return
        run = self._run_id(identity, trial.id, parent)
        self._log_params(run, trial.plan)
        ended = max(self._end_times(trial.plan), default=0.0)
        self._log_metrics(run, _metrics_of(trial, ended))
        for role, key in trial.plan.keys.named().items():
            manifest = self._store.manifest(key)
            if manifest is not None:
                self._export_job(f"{identity}/{role}", role, manifest, run)
        self._set_tags(run, {"midre.status": trial.status, "midre.error": trial.error[:5000]})
        self._end_run(run, "FINISHED" if trial.status == "done" else "FAILED", ended or None)

    def _export_job(self, identity: str, role: str, manifest: Manifest, parent: str) -> None:
        finished, seconds = manifest.facts["finished_at"], manifest.facts["seconds"]
        run = self._run_id(identity, role, parent, started=finished - seconds)
        if "history.json" in manifest.files:
            history = self._store.read_json(manifest.key, "history.json")
            self._log_metrics(run, [metric for row in history for metric in _points(row)])
        with tempfile.TemporaryDirectory(prefix="midre-") as folder:
            file = Path(folder) / "manifest.json"
            file.write_text(json.dumps(self._described(manifest), indent=1, sort_keys=True), encoding="utf-8")
            self._client.log_artifact(run, str(file))
        for picture in (name for name in manifest.files if name.endswith(".png")):
            self._client.log_artifact(run, str(self._store.open(manifest.key) / picture))
        self._end_run(run, "FINISHED", finished)

    def _described(self, manifest: Manifest) -> dict[str, Any]:
        """Where a job's artifact lies and what is in it."""
        return {
            "key": manifest.key,
            "kind": manifest.kind,
            "location": self._store.location(manifest),
            "sha256": manifest.digest(),
            "files": {name: vars(file) for name, file in manifest.files.items()},
            "facts": dict(manifest.facts),
        }

    def _existing_runs(self) -> Iterator[tuple[str, _Run]]:
        """Every run of this sweep that MLflow has, by the identity in its tag."""
        page: str | None = None
        query = f"tags.`midre.sweep` = '{self._result.resolved.sweep}'"
        while True:
            runs = self._client.search_runs([self._experiment], query, max_results=1000, page_token=page)
            for run in runs:
                tags = run.data.tags
                yield tags["midre.id"], _Run(run.info.run_id, tags.get("midre.status", ""))
            page = runs.token
            if not page:
                return

    def _run_id(self, identity: str, name: str, parent: str | None, *, started: float | None = None) -> str:
        """The id of a run, which is created if MLflow does not have it."""
        if identity in self._runs:
            return self._runs[identity].id
        tags = {"midre.id": identity, "midre.sweep": self._result.resolved.sweep}
        if parent:
            tags["mlflow.parentRunId"] = parent
        start = int(started * 1000) if started else None
        run = self._client.create_run(self._experiment, start_time=start, tags=tags, run_name=name)
        self._runs[identity] = _Run(str(run.info.run_id), "")
        return self._runs[identity].id

    def _log_params(self, run: str, plan: TrialPlan) -> None:
        # Where defenses themselves are searched, their kinds alone would not tell points apart.
        kinds = {"defenses": ", ".join(plan.defenses) or "none"}
        params = {**kinds, **plan.trial.params, "seed": plan.trial.seed}
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in params.items()}
        self._client.log_batch(run, params=[Param(_name_of(key), text) for key, text in texts.items()])

    def _log_datasets(self, run: str) -> None:
        resolved = self._result.resolved
        inputs = self._client.get_run(run).inputs
        if inputs and inputs.dataset_inputs:
            return
        data = resolved.spec.data
        for role, config, digest in (
            ("private", data.private, resolved.private_digest),
            ("public", data.public, resolved.public_digest),
        ):
            dataset = Dataset(f"{role}: {config.kind}", digest[:32], "local", config.model_dump_json())
            self._client.log_inputs(run, datasets=[DatasetInput(dataset)])

    def _log_metrics(self, run: str, metrics: list[Metric]) -> None:
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(run, metrics=metrics[start : start + BATCH])

    def _set_tags(self, run: str, tags: Mapping[str, str]) -> None:
        self._client.log_batch(run, tags=[RunTag(key, value) for key, value in tags.items() if value])

    def _end_run(self, run: str, status: str, ended: float | None) -> None:
        self._client.set_terminated(run, status, int(ended * 1000) if ended else None)

    def _end_times(self, plan: TrialPlan) -> Iterator[float]:
        for job in plan.jobs:
            manifest = self._store.manifest(job.key)
            if manifest is not None:
                yield float(manifest.facts["finished_at"])


@dataclass(frozen=True)
class _Run:
    """A run that MLflow has."""

    id: str
    status: str
    """Status of the trial when it was exported; empty for other runs."""


def _experiment_id(client: MlflowClient, name: str, artifact_location: str | None) -> str:
    experiment = client.get_experiment_by_name(name)
    return experiment.experiment_id if experiment else client.create_experiment(name, artifact_location)


def _metrics_of(trial: TrialResult, ended: float) -> list[Metric]:
    """Every number of a trial with the ends of its interval, at the time the trial ended."""
    return [
        Metric(_name_of(f"{name}{suffix}"), estimate[bound], int(ended * 1000), 0)
        for name, estimate in trial.estimates().items()
        for suffix, bound in (("", "value"), (".low", "low"), (".high", "high"))
    ]


def _reason(error: Exception) -> str:
    """The first line of an error, without a password that a URI in it may hold."""
    return without_password(str(error).partition("\n")[0])[:200]


def _points(row: Mapping[str, Any]) -> Iterator[Metric]:
    for name, value in row["metrics"].items():
        yield Metric(_name_of(name), value, int(row["time"] * 1000), row["step"])


def _name_of(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_./ -]", "_", name)


def _versions() -> dict[str, str]:
    return {f"midre.version.{package}": version(package) for package in ("midre", "torch", "ray", "mlflow")}
