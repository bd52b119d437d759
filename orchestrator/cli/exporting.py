"""`midre export`: the model of a trial as files."""

from __future__ import annotations

from pathlib import Path

from orchestrator.cli.output import print_json, print_text
from orchestrator.reports.model_export import ONNX, export_model
from orchestrator.results.sweep_result import finished_trial
from orchestrator.sweep import Sweep


def export_trial(run: Path, id: str, folder: Path, *, as_json: bool) -> None:
    """Write the target model of a trial with its card, and print the files.

    Raises:
        RequestError: if there is no such trial, or the folder holds files.
    """
    sweep = Sweep.reopened(run)
    result = sweep.result()
    export = export_model(result, finished_trial(result, id), sweep.store, folder)
    if as_json:
        print_json({"files": [str(file) for file in export.files], "without_onnx": export.without_onnx})
        return
    for file in export.files:
        print_text(str(file))
    if export.without_onnx is not None:
        print_text(f"no {ONNX}: {export.without_onnx}")
