"""A finished run to be run again, wherever it is kept."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import RequestError
from orchestrator.spec.loading import machine_of, read_resolved
from orchestrator.spec.model import ResolvedSpec, StorageConfig, TrackingConfig
from orchestrator.store.paths import RunPaths, Workspace
from orchestrator.sweep import TRACKING_VARIABLE, Sweep

MLFLOW_ID = re.compile(r"[0-9a-f]{32}")
"""The id of a run in MLflow."""


@dataclass(frozen=True)
class OriginalRun:
    """A finished run: its spec and its results."""

    resolved: ResolvedSpec
    summary: Mapping[str, Any]
    """The content of its summary.json."""
    reruns: Path
    """Folder for its reruns, which are numbered from 1."""

    def rerun(self) -> Sweep:
        """The same sweep with a new folder and store, so that nothing is done yet. It is not sent to MLflow."""
        number = 1 + max((int(folder.name) for folder in self.reruns.glob("[0-9]*")), default=0)
        changes = {"storage": StorageConfig(), "tracking": TrackingConfig(enabled=False), "on_end": ""}
        spec = self.resolved.spec.model_copy(update=changes)
        resolved = self.resolved.model_copy(update={"spec": spec, "machine": machine_of(spec)})
        return Sweep(resolved, Workspace((self.reruns / str(number)).absolute()))


def original_run(source: str, *, runs: Path, mlflow_uri: str | None) -> OriginalRun:
    """Find the finished run that `source` names: a run folder, or the id of an MLflow run of its sweep.

    Raises:
        RequestError: if it names no run, or one without results.
    """
    if Path(source).is_dir():
        paths = RunPaths(Path(source))
        return _from_folder(Path(source), reruns=paths.reruns)
    if not MLFLOW_ID.fullmatch(source):
        raise RequestError(f"{source}: neither a run folder, a spec file nor the id of an MLflow run.")
    from orchestrator.tracking.export import download_run  # MLflow is heavy, and a run folder does not need it

    folder = runs / "from-mlflow" / source
    uri = mlflow_uri or os.environ.get(TRACKING_VARIABLE) or Workspace(runs).mlflow_uri
    download_run(source, uri=uri, folder=folder)
    return _from_folder(folder, reruns=folder / "reruns")


def _from_folder(folder: Path, *, reruns: Path) -> OriginalRun:
    """Read a folder that holds resolved.json and summary.json, in the layout of a run or side by side."""
    paths = RunPaths(folder)
    summary = paths.summary if paths.summary.is_file() else folder / paths.summary.name
    for file in (paths.resolved, summary):
        if not file.is_file():
            raise RequestError(f"{folder}: has no {file.name}: there is nothing to compare a rerun with.")
    resolved = read_resolved(paths.resolved)
    return OriginalRun(resolved, json.loads(summary.read_text(encoding="utf-8")), reruns)
