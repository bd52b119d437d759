"""Export to MLflow: the tree of runs, and that a second export adds nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from orchestrator.cli.commands import app
from orchestrator.errors import TrackingUnavailable
from orchestrator.executors.inline import InlineExecutor
from orchestrator.store.paths import without_password
from orchestrator.sweep import Sweep
from tests.support.toy import toy_sweep, write_spec

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("mlflow")
    sweep = toy_sweep(folder, folder / "runs", search={"space": {}, "seeds": [0]}, defenses=[])
    sweep.run(InlineExecutor(), spec_file=None)
    sweep.publish(sweep.result(), seconds=0.0, jobs={})
    sweep.sync(sweep.result())
    return sweep


def runs_of(sweep: Sweep) -> list[Run]:
    """All runs in MLflow: a list, so that one that is there twice is seen."""
    client = MlflowClient(sweep.mlflow_uri)
    experiment = client.get_experiment_by_name("midre")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def names_of(sweep: Sweep) -> list[str]:
    return sorted(run.data.tags["midre.id"] for run in runs_of(sweep))


def points_of(sweep: Sweep) -> list[tuple[Any, ...]]:
    """Every point of every metric: of which run, its name, value, time and step."""
    client = MlflowClient(sweep.mlflow_uri)
    return sorted(
        (run.data.tags["midre.id"], name, point.value, point.timestamp, point.step)
        for run in runs_of(sweep)
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    )


def test_a_sweep_is_a_run_with_its_trials_and_their_jobs_below(sweep: Sweep) -> None:
    (plan,) = sweep.plans()
    trial = f"{sweep.id}/{plan.trial.id}"
    assert names_of(sweep) == sorted([sweep.id, trial, *(f"{trial}/{role}" for role in plan.keys.named())])


def test_a_trial_carries_its_numbers_with_their_intervals(sweep: Sweep) -> None:
    (trial,) = sweep.result().trials
    (run,) = (run for run in runs_of(sweep) if run.data.tags["midre.id"] == f"{sweep.id}/{trial.id}")
    for name, estimate in trial.estimates().items():
        assert run.data.metrics[name] == estimate["value"]
        assert run.data.metrics[f"{name}.low"] == estimate["low"]


def test_no_weights_go_through_the_server(sweep: Sweep) -> None:
    client = MlflowClient(sweep.mlflow_uri)
    names = {artifact.path for run in runs_of(sweep) for artifact in client.list_artifacts(run.info.run_id)}
    assert {"manifest.json", "pairs.png", "samples.png", "resolved.json"} <= names
    assert not any(name.endswith(".safetensors") for name in names)


def test_a_second_export_adds_no_run_and_no_point(sweep: Sweep) -> None:
    before = names_of(sweep), points_of(sweep)
    sweep.sync(sweep.result())
    assert (names_of(sweep), points_of(sweep)) == before


def test_an_export_to_a_wiped_server_gives_the_same_runs_and_points(sweep: Sweep, tmp_path: Path) -> None:
    """Elsewhere, since MLflow goes on using a database that is open, wiped or not."""
    shutil.copytree(sweep.workspace.root, tmp_path / "runs", ignore=shutil.ignore_patterns("mlflow*"))
    wiped = Sweep.reopened(tmp_path / "runs" / sweep.id)
    assert not list(tmp_path.rglob("mlflow*"))
    wiped.sync(wiped.result())
    assert (tmp_path / "runs" / "mlflow.db").is_file()
    assert (names_of(wiped), points_of(wiped)) == (names_of(sweep), points_of(sweep))


@pytest.fixture
def _asks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer is not asked again, which would cost seconds."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.mark.usefixtures("_asks_once")
def test_an_unreachable_server_is_one_line(tmp_path: Path) -> None:
    tracking = {"uri": "http://127.0.0.1:9"}
    sweep = toy_sweep(tmp_path, tmp_path / "runs", tracking=tracking)
    with pytest.raises(TrackingUnavailable, match=r"MLflow at http://127\.0\.0\.1:9 cannot be written to"):
        sweep.sync(sweep.result())


@pytest.mark.usefixtures("_asks_once")
def test_a_run_without_its_server_finishes_and_syncs_afterwards(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    changes: dict[str, Any] = {"search": {"space": {}, "seeds": [0]}, "defenses": [], "tracking": {"uri": uri}}
    spec = write_spec(tmp_path, **changes)
    command = ["run", str(spec), "--runs", str(tmp_path / "runs"), "--executor", "inline", "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["trials"][0]["status"] == "done"
    assert result.stderr.count("cannot be written to") == 1
    sweep = toy_sweep(tmp_path, tmp_path / "runs", **changes)
    served = f"sqlite:///{tmp_path}/served.db"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    server = subprocess.Popen(
        [*command, "--backend-store-uri", served, "--artifacts-destination", str(tmp_path / "served")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # six more processes, and none is used
    )
    try:
        wait_for_server(port)
        sweep.sync(sweep.result())
        late = names_of(sweep), points_of(sweep)
        sweep.sync(sweep.result())
        assert (names_of(sweep), points_of(sweep)) == late, "twice gives no more"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
    beside = toy_sweep(tmp_path, tmp_path / "runs", **{**changes, "tracking": {}})
    beside.sync(beside.result())
    assert late == (names_of(beside), points_of(beside)), "as if it had been there"


def wait_for_server(port: int) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except OSError:
            assert time.monotonic() < deadline, "the server never answered"
            time.sleep(0.1)


def test_a_password_in_an_address_is_not_shown() -> None:
    assert without_password("https://me:secret@host/path") == "https://***@host/path"
