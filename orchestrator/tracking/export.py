"""MLflow brought up to date with ledger and store. A second export changes nothing."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mlflow.entities import Dataset, DatasetInput, Metric, Param, Run, RunTag, ViewType
from mlflow.tracking import MlflowClient

from orchestrator.errors import TrackingUnavailable
from orchestrator.results.sweep_result import SweepResult
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.ledger import RunState
from orchestrator.store.paths import RunPaths
from orchestrator.tracking.client import open_experiment, refusals_named, written_quickly
from orchestrator.tracking.content import PROGRESS, RunContent, job_contents, sweep_content, trial_contents

BATCH = 1000
"""Metrics in one request: the server's limit."""
RUNS_AT_ONCE = 8
"""Runs that are sent to a server at the same time."""
MODELS_AT_ONCE = 50
"""Names of models that are looked for in one request."""
COMPLETE = "midre.content"
"""Tag of a run that holds all of a content, with the content's digest."""
EXPORTED = "midre.exported"
"""Tag of a sweep's run that says what the last export was made from."""
SHAPE = "3"
"""What runs look like. An export by a version of midre that gives them another shape writes them again."""


@dataclass(frozen=True)
class Source:
    """What an export reads."""

    result: Callable[[], SweepResult]
    """Collects the results, which takes a while; not called if MLflow is up to date."""
    state: RunState
    store: ArtifactStore
    paths: RunPaths
    sweep: str
    at_work: bool
    """Whether a process runs the sweep now."""
    jobs: bool
    """Whether jobs are runs too."""
    is_wanted: Callable[[], bool] = lambda: True
    """Whether anybody still waits for the export."""


def export(source: Source, *, uri: str, experiment: str, artifact_location: str | None = None) -> int:
    """Bring MLflow up to date: a run for the sweep, a run in it for each trial, a logged model for each target.

    Runs are recognised by their tags, and metrics carry the times at which they were made, so that a second export adds
    nothing. Returns the number of runs that were written.

    Raises:
        TrackingRefused: if asking again will not help.
        TrackingUnavailable: if the server cannot be reached or written to.
    """
    with refusals_named(uri), _alone(source.paths):
        client, experiment_id = open_experiment(uri, experiment, artifact_location)
        at_once = RUNS_AT_ONCE if uri.startswith("http") else 1  # a database of this machine's has one writer
        with written_quickly(uri):
            return _Exporter(client, experiment_id, source, at_once).export()


def download_run(run: str, *, uri: str, folder: Path) -> None:
    """Download the resolved spec and the summary of the sweep that an MLflow run belongs to into `folder`.

    Raises:
        TrackingRefused or TrackingUnavailable: if the server does not answer, or has no such run of ours.
    """
    with refusals_named(uri):
        client = MlflowClient(uri)
        while parent := client.get_run(run).data.tags.get("mlflow.parentRunId"):
            run = parent
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("resolved.json", "summary.json"):
            client.download_artifacts(run, name, str(folder))


class _Exporter:
    """One export of one sweep, with the runs that MLflow has of it."""

    def __init__(self, client: MlflowClient, experiment: str, source: Source, at_once: int) -> None:
        self._client, self._experiment, self._source, self._at_once = client, experiment, source, at_once
        self._runs: dict[str, _Existing] = {}
        self._models: dict[str, str] = {}
        self._written = 0

    def export(self) -> int:
        source, stamp = self._source, self._stamp()
        if self._is_up_to_date(stamp):
            return 0
        self._runs = dict(self._existing_runs())
        sweep = self._runs.get(source.sweep)
        begun = {f"{source.sweep}/{trial}" for trial in source.state.trials}
        if sweep is not None and sweep.tags.get(EXPORTED) == stamp and begun <= set(self._runs):
            return 0
        result = source.result()
        content = sweep_content(result, source.state, source.paths, at_work=source.at_work)
        run = self._export_run(content, parent=None)
        self._log_datasets(run, result)
        children = [*trial_contents(result, source.state, source.store, at_work=source.at_work)]
        children += job_contents(result, source.store) if source.jobs else ()
        changed = [child for child in children if not self._has(child, run)]
        self._models = self._existing_models([child.model.name for child in changed if child.model])
        self._export_groups(_by_model(changed), run)
        if not source.at_work:
            self._log_files(run)
        self._client.set_tag(run, EXPORTED, stamp)
        return self._written

    def _is_up_to_date(self, stamp: str) -> bool:
        """Whether the sweep's run says so and none of its runs was deleted, which needs no look at all of them.

        Where some were, or it says otherwise, all are looked at. One that `mlflow gc` has removed is missed until then.
        """
        sweeps = self._client.search_runs([self._experiment], f"tags.`midre.id` = '{self._source.sweep}'")
        is_stamped = any(run.data.tags.get(EXPORTED) == stamp for run in sweeps)
        return is_stamped and not self._client.search_runs([self._experiment], self._query, ViewType.DELETED_ONLY, 1)

    @property
    def _query(self) -> str:
        return f"tags.`midre.sweep` = '{self._source.sweep}'"

    def _stamp(self) -> str:
        """What an export was made from: MLflow with the same stamp is up to date."""
        source = self._source
        ledger = hashlib.sha256(source.paths.ledger.read_bytes()).hexdigest() if source.paths.ledger.exists() else ""
        report = source.paths.report.stat().st_mtime_ns if source.paths.report.exists() else 0
        return f"{SHAPE} {ledger[:32]} {report} {source.at_work} {source.jobs}"

    def _export_groups(self, groups: Sequence[Sequence[RunContent]], parent: str) -> None:
        """Write groups of runs several at a time; the first that fails, or that nobody waits for, ends it."""
        pool = ThreadPoolExecutor(self._at_once)
        try:
            for written in [pool.submit(self._export_group, group, parent) for group in groups]:
                written.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _export_group(self, group: Sequence[RunContent], parent: str) -> None:
        for content in group:
            if not self._source.is_wanted():
                raise TrackingUnavailable("The export was given up.")
            self._export_run(content, parent=parent)

    def _has(self, content: RunContent, parent: str | None) -> bool:
        """Whether MLflow has a run as it should be."""
        existing = self._runs.get(content.identity)
        tags = {**_tags(content, parent), COMPLETE: _stamp_of(content)}
        return existing is not None and tags.items() <= existing.tags.items()

    def _export_run(self, content: RunContent, *, parent: str | None) -> str:
        """Write a run unless MLflow has it as it is; returns its id."""
        existing, tags = self._runs.get(content.identity), _tags(content, parent)
        if existing and self._has(content, parent):
            return existing.id
        run = existing.id if existing else self._create(content, tags)
        model = self._model_of(content, run)
        if content.status != "RUNNING":
            ended = int(content.ended * 1000) if content.ended else None
            self._client.set_terminated(run, content.status, ended)
        elif existing and existing.status != "RUNNING":
            self._client.update_run(run, status="RUNNING")
        for name, table in content.tables.items():
            self._client.log_text(run, json.dumps(table), name)
        self._log_pictures(run, content.pictures)
        marks = {**tags, COMPLETE: _stamp_of(content)}
        self._log(run, content, existing or _Existing(run, "RUNNING", tags), marks, model)
        self._written += 1
        return run

    def _log(
        self, run: str, content: RunContent, existing: _Existing, tags: Mapping[str, str], model: str | None
    ) -> None:
        """Send the points, parameters and tags that are missing: last the tag which says that all is there."""
        points = [point for point in content.points if point.step >= existing.progress]
        numbers = [_metric(point.name, point.value, point.time, point.step) for point in points]
        if model is not None:
            numbers = [_linked(metric, model, run) if metric.step == 0 else metric for metric in numbers]
        batches = [numbers[start : start + BATCH] for start in range(0, len(numbers), BATCH)] or [[]]
        for batch in batches[:-1]:
            self._client.log_batch(run, metrics=batch)
        params = [Param(name, value) for name, value in content.params.items() if name not in existing.params]
        marks = [RunTag(name, value) for name, value in tags.items() if existing.tags.get(name) != value]
        for start in range(100, len(params), 100):
            self._client.log_batch(run, params=params[start : start + 100])
        self._client.log_batch(run, metrics=batches[-1], params=params[:100], tags=marks)

    def _create(self, content: RunContent, tags: Mapping[str, str]) -> str:
        """Create a run with all its tags, which is cheaper than to set them afterwards."""
        marks = {**tags, "midre.id": content.identity, "midre.sweep": self._source.sweep}
        start = int(content.started * 1000) if content.started else None
        run = self._client.create_run(self._experiment, start_time=start, tags=marks, run_name=content.name)
        return str(run.info.run_id)

    def _model_of(self, content: RunContent, run: str) -> str | None:
        """The id of the logged model of a run's target, which is made once however many trials and sweeps have it."""
        model = content.model
        if model is None:
            return None
        if model.name not in self._models:
            created = self._client.create_logged_model(
                self._experiment,
                name=model.name,
                source_run_id=run,
                params=dict(model.params),
                tags={**model.tags, "midre.sweep": self._source.sweep},
                model_type="target model",
            )
            self._client.finalize_logged_model(created.model_id, "READY")
            self._models[model.name] = created.model_id
        return self._models[model.name]

    def _existing_runs(self) -> Iterator[tuple[str, _Existing]]:
        """Every run of this sweep that MLflow has, by the identity in its tag."""
        page: str | None = None
        while True:
            runs = self._client.search_runs(
                [self._experiment], self._query, ViewType.ACTIVE_ONLY, 1000, page_token=page
            )
            for run in runs:
                yield run.data.tags["midre.id"], _Existing.of(run)
            page = runs.token
            if not page:
                return

    def _existing_models(self, names: Sequence[str]) -> dict[str, str]:
        """Ids of the models of these names that the experiment has."""
        models = {}
        distinct = list(dict.fromkeys(names))
        for start in range(0, len(distinct), MODELS_AT_ONCE):
            listed = ", ".join(f"'{name}'" for name in distinct[start : start + MODELS_AT_ONCE])
            for model in self._client.search_logged_models([self._experiment], f"name IN ({listed})"):
                models[model.name] = model.model_id
        return models

    def _log_datasets(self, run: str, result: SweepResult) -> None:
        inputs = self._client.get_run(run).inputs
        if inputs and inputs.dataset_inputs:
            return
        data, resolved = result.resolved.spec.data, result.resolved
        for role, config, digest in (
            ("private", data.private, resolved.private_digest),
            ("public", data.public, resolved.public_digest),
        ):
            dataset = Dataset(f"{role}: {config.kind}", digest[:32], "local", config.model_dump_json())
            self._client.log_inputs(run, datasets=[DatasetInput(dataset)])

    def _log_files(self, run: str) -> None:
        paths = self._source.paths
        for file in (paths.spec, paths.resolved, paths.summary, paths.frontier, paths.report):
            if file.exists():
                self._client.log_artifact(run, str(file))

    def _log_pictures(self, run: str, pictures: Mapping[str, str]) -> None:
        for name, key in pictures.items():
            self._client.log_artifact(run, str(self._source.store.open(key) / name))


@dataclass(frozen=True)
class _Existing:
    """A run that MLflow has."""

    id: str
    status: str
    tags: Mapping[str, str]
    params: Mapping[str, str] = field(default_factory=dict)
    progress: int = 0
    """The step up to which a sweep's points are there, though some of the last may be missing; 0 for other runs."""

    @staticmethod
    def of(run: Run) -> _Existing:
        data = run.data
        return _Existing(run.info.run_id, run.info.status, data.tags, data.params, int(data.metrics.get(PROGRESS, 0)))


@contextlib.contextmanager
def _alone(paths: RunPaths) -> Iterator[None]:
    """Wait for another export of the same run: MLflow cannot create a run only if it is not there."""
    paths.export_lock.parent.mkdir(parents=True, exist_ok=True)
    with paths.export_lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _by_model(contents: Sequence[RunContent]) -> list[list[RunContent]]:
    """Runs in groups that may be written at the same time: two that share a model would both create it."""
    groups: dict[str, list[RunContent]] = {}
    for content in contents:
        groups.setdefault(content.model.name if content.model else content.identity, []).append(content)
    return list(groups.values())


def _tags(content: RunContent, parent: str | None) -> dict[str, str]:
    """The tags of a run, without that which says that all of it is there."""
    tags = {**content.tags, **({"mlflow.parentRunId": parent} if parent else {})}
    return {name: value for name, value in tags.items() if value}


def _stamp_of(content: RunContent) -> str:
    return f"{SHAPE} {content.digest()}"


def _metric(name: str, value: float, time: float, step: int) -> Metric:
    return Metric(name, value, int(time * 1000), step)


def _linked(metric: Metric, model: str, run: str) -> Metric:
    """A number that is one of the model as well, so that models can be searched by it."""
    return Metric(metric.key, metric.value, metric.timestamp, metric.step, model_id=model, run_id=run)
