"""Run a spec afresh beside its old results."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import RequestError
from orchestrator.spec.model import ResolvedSpec, StorageConfig, TrackingConfig
from orchestrator.store.paths import RunPaths, Workspace
from orchestrator.sweep import Sweep


@dataclass(frozen=True)
class Original:
    """What is run again: its resolved spec, what it gave, and the folder its reruns go to."""

    resolved: ResolvedSpec
    summary: Mapping[str, Any]
    reruns: Path

    def fresh(self) -> Sweep:
        """The same sweep in a folder and a store of its own, where nothing is done yet."""
        number = 1 + max((int(own.name) for own in self.reruns.glob("[0-9]*")), default=0)
        changes = {"storage": StorageConfig(), "tracking": TrackingConfig(enabled=False)}
        spec = self.resolved.spec.model_copy(update=changes)
        resolved = self.resolved.model_copy(update={"spec": spec})
        return Sweep(resolved, Workspace((self.reruns / str(number)).absolute()))


def original(source: str, *, runs: Path, mlflow_uri: str | None) -> Original:
    """The finished run that `source` names: a run folder, or the id of an MLflow run of its sweep.

    Raises:
        RequestError: if it names none, or one without results.
    """
    if Path(source).is_dir():
        paths = RunPaths(Path(source))
        return _from_folder(Path(source), reruns=paths.reruns)
    if not re.fullmatch(r"[0-9a-f]{32}", source):
        raise RequestError(f"{source}: neither a run folder, a spec file nor the id of an MLflow run.")
    from orchestrator.tracking.mlflow import download_run

    folder = runs / "from-mlflow" / source
    download_run(source, uri=mlflow_uri or Workspace(runs).mlflow_uri, folder=folder)
    return _from_folder(folder, reruns=folder / "reruns")


def _from_folder(folder: Path, *, reruns: Path) -> Original:
    """A folder that holds resolved.json and summary.json, in the layout of a run or side by side."""
    paths = RunPaths(folder)
    summary = paths.summary if paths.summary.is_file() else folder / paths.summary.name
    for file in (paths.resolved, summary):
        if not file.is_file():
            raise RequestError(f"{folder}: has no {file.name}: there is nothing to compare a rerun with.")
    resolved = ResolvedSpec.model_validate_json(paths.resolved.read_text(encoding="utf-8"))
    return Original(resolved, json.loads(summary.read_text(encoding="utf-8")), reruns)
