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
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import LoggedModel, Run
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from orchestrator.cli.commands import app
from orchestrator.errors import TrackingRefused, TrackingUnavailable
from orchestrator.executors.inline import InlineExecutor
from orchestrator.store.ledger import read_events
from orchestrator.store.paths import without_password
from orchestrator.sweep import Sweep
from orchestrator.tracking.content import sweep_content, trial_contents
from tests.support.toy import toy_sweep, write_spec

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("mlflow")
    sweep = toy_sweep(folder, folder / "runs", search={"space": {}, "seeds": [0]}, defenses=[])
    sweep.run(InlineExecutor(), spec_file=None)
    sweep.publish(sweep.result(), seconds=0.0, jobs={})
    sweep.sync()
    return sweep


def runs_of(sweep: Sweep) -> list[Run]:
    """All runs in MLflow: a list, so that one that is there twice is seen."""
    client = MlflowClient(sweep.mlflow_uri)
    experiment = client.get_experiment_by_name("midre")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def names_of(sweep: Sweep) -> list[str]:
    return sorted(run.data.tags["midre.id"] for run in runs_of(sweep))


def trial_run_of(sweep: Sweep) -> Run:
    (trial,) = sweep.plans()
    (run,) = (run for run in runs_of(sweep) if run.data.tags["midre.id"] == f"{sweep.id}/{trial.trial.id}")
    return run


def points_of(sweep: Sweep) -> list[tuple[Any, ...]]:
    """Every point of every metric: of which run, its name, value, time and step."""
    client = MlflowClient(sweep.mlflow_uri)
    return sorted(
        (run.data.tags["midre.id"], name, point.value, point.timestamp, point.step)
        for run in runs_of(sweep)
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    )


def models_of(sweep: Sweep) -> list[LoggedModel]:
    client = MlflowClient(sweep.mlflow_uri)
    experiment = client.get_experiment_by_name("midre")
    assert experiment is not None
    return list(client.search_logged_models([experiment.experiment_id], order_by=[{"field_name": LEAKS}]))


LEAKS = "metrics.`gmi.attack_accuracy`"


def test_a_sweep_is_a_run_with_its_trials_below(sweep: Sweep) -> None:
    (plan,) = sweep.plans()
    assert names_of(sweep) == sorted([sweep.id, f"{sweep.id}/{plan.trial.id}"])
    assert trial_run_of(sweep).info.run_name == "no defense, seed 0"


def test_a_trial_carries_its_numbers_and_intervals_under_few_names(sweep: Sweep) -> None:
    (trial,) = sweep.result().trials
    run = trial_run_of(sweep)
    assert {name: run.data.metrics[name] for name in trial.estimates()} == {
        name: estimate["value"] for name, estimate in trial.estimates().items()
    }
    assert len(run.data.metrics) <= 25
    intervals = json.loads(run.data.tags["midre.intervals"])
    assert intervals == {name: [number["low"], number["high"]] for name, number in trial.estimates().items()}


def test_curves_of_training_have_a_point_for_each_epoch(sweep: Sweep) -> None:
    (plan,) = sweep.plans()
    rows = sweep.store.read_json(plan.keys.target, "history.json")
    name = next(iter(rows[0]["metrics"]))
    points = MlflowClient(sweep.mlflow_uri).get_metric_history(trial_run_of(sweep).info.run_id, f"target/{name}")
    assert [(point.step, point.value) for point in points] == [(row["step"], row["metrics"][name]) for row in rows]
    assert len(points) == 2


def test_a_trial_begins_and_ends_when_the_ledger_says(sweep: Sweep) -> None:
    times = {event["event"]: event["time"] for event in read_events(sweep.paths.ledger) if "trial" in event}
    info = trial_run_of(sweep).info
    assert (info.start_time, info.end_time) == (
        int(times["trial_started"] * 1000),
        int(times["trial_done"] * 1000),
    )
    assert info.status == "FINISHED"


def test_a_trial_at_work_is_shown_as_such_until_nobody_works_on_it(sweep: Sweep) -> None:
    result, (trial,) = sweep.result(), sweep.result().trials
    halfway = replace(result, trials=(replace(trial, status="started", utility={}, attacks={}),))
    state = sweep.state()
    statuses = [
        [content.status for content in trial_contents(halfway, state, sweep.store, at_work=at_work)]
        + [sweep_content(halfway, state, sweep.paths, at_work=at_work).status]
        for at_work in (True, False)
    ]
    assert statuses == [["RUNNING", "RUNNING"], ["KILLED", "KILLED"]]


def test_the_least_leaking_target_is_found_among_logged_models(sweep: Sweep) -> None:
    (trial,), (model,) = sweep.result().trials, models_of(sweep)
    numbers = {metric.key: metric.value for metric in model.metrics or ()}
    assert numbers["gmi.attack_accuracy"] == trial.value("gmi.attack_accuracy")
    assert model.params == {"defenses": "none", "seed": "0"}
    assert model.tags["midre.key"] == trial.plan.keys.target


def test_the_run_of_a_sweep_holds_its_settings_and_its_frontier(sweep: Sweep) -> None:
    (run,) = (run for run in runs_of(sweep) if run.data.tags["midre.id"] == sweep.id)
    (trial,) = sweep.result().trials
    area = trial.value("natural_accuracy") * (1 - trial.value("gmi.attack_accuracy"))  # one point, one rectangle
    assert run.data.metrics["hypervolume"] == pytest.approx(area, abs=1e-12)
    assert (run.data.params["attacks.0.steps"], run.data.params["target.training.epochs"]) == ("3", "2")
    assert "search.seeds" not in run.data.params


def test_no_weights_go_through_the_server(sweep: Sweep) -> None:
    client = MlflowClient(sweep.mlflow_uri)
    names = {artifact.path for run in runs_of(sweep) for artifact in client.list_artifacts(run.info.run_id)}
    assert names == {"resolved.json", "summary.json", "frontier.png", "index.html", "estimates.json"}


def test_a_second_export_adds_no_run_and_no_point(sweep: Sweep) -> None:
    before = names_of(sweep), points_of(sweep), len(models_of(sweep))
    assert sweep.sync() == 0
    assert (names_of(sweep), points_of(sweep), len(models_of(sweep))) == before


def test_an_export_to_a_wiped_server_gives_the_same_runs_and_points(sweep: Sweep, tmp_path: Path) -> None:
    """Elsewhere, since MLflow goes on using a database that is open, wiped or not."""
    shutil.copytree(sweep.workspace.root, tmp_path / "runs", ignore=shutil.ignore_patterns("mlflow*"))
    wiped = Sweep.reopened(tmp_path / "runs" / sweep.id)
    assert not list(tmp_path.rglob("mlflow*"))
    wiped.sync()
    assert (tmp_path / "runs" / "mlflow.db").is_file()
    assert (names_of(wiped), points_of(wiped)) == (names_of(sweep), points_of(sweep))


def test_a_run_that_was_deleted_is_made_again(sweep: Sweep) -> None:
    before = names_of(sweep), points_of(sweep)
    MlflowClient(sweep.mlflow_uri).delete_run(trial_run_of(sweep).info.run_id)
    assert names_of(sweep) == [sweep.id]
    assert sweep.sync() == 1
    assert (names_of(sweep), points_of(sweep)) == before


def test_jobs_are_runs_where_they_are_wanted_once_each(sweep: Sweep, tmp_path: Path) -> None:
    shutil.copytree(sweep.workspace.root, tmp_path / "runs")
    copied = Sweep.reopened(tmp_path / "runs" / sweep.id)
    tracking = copied.resolved.spec.tracking.model_copy(update={"jobs": True})
    spec = copied.resolved.spec.model_copy(update={"tracking": tracking})
    detailed = replace(copied, resolved=copied.resolved.model_copy(update={"spec": spec}))
    detailed.sync()
    (plan,) = sweep.plans()
    jobs = [f"{sweep.id}/job/{job.key}" for job in plan.jobs]
    assert names_of(detailed) == sorted([sweep.id, f"{sweep.id}/{plan.trial.id}", *jobs])


def with_the_database_of(sweep: Sweep, tmp_path: Path, *, runs: Path) -> Sweep:
    """A sweep that has not run, with a copy of a database: making one takes seconds."""
    runs.mkdir(parents=True)
    shutil.copy(sweep.workspace.root / "mlflow.db", runs)
    return toy_sweep(tmp_path, runs, tracking={"enabled": True})


def test_a_deleted_experiment_is_refused_with_the_way_out(sweep: Sweep, tmp_path: Path) -> None:
    late = with_the_database_of(sweep, tmp_path, runs=tmp_path / "runs")
    client = MlflowClient(late.mlflow_uri)
    experiment = client.get_experiment_by_name("midre")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    for ask in (late.sync, late.check_tracking):
        with pytest.raises(TrackingRefused, match=r"'midre' was deleted there: restore it .* or set tracking\.exp"):
            ask()


def test_the_database_lies_beside_the_runs_whatever_their_folder_is_called(sweep: Sweep, tmp_path: Path) -> None:
    late = with_the_database_of(sweep, tmp_path, runs=tmp_path / "50%20off? #1" / "runs")
    late.sync()
    assert late.id in names_of(late)
    assert {path.name for path in tmp_path.iterdir()} == {"toy.yaml", "50%20off? #1"}


def test_the_server_of_the_shell_counts_where_the_spec_names_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere.db")
    assert toy_sweep(tmp_path, tmp_path / "runs").mlflow_uri == "sqlite:///elsewhere.db"
    chosen = toy_sweep(tmp_path, tmp_path / "runs", tracking={"uri": "http://127.0.0.1:9"})
    assert chosen.mlflow_uri == "http://127.0.0.1:9"


@pytest.fixture
def _asks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer is not asked again, which would cost seconds."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.mark.usefixtures("_asks_once")
def test_an_unreachable_server_is_one_line(tmp_path: Path) -> None:
    tracking = {"uri": "http://127.0.0.1:9"}
    sweep = toy_sweep(tmp_path, tmp_path / "runs", tracking=tracking)
    with pytest.raises(TrackingUnavailable, match=r"MLflow at http://127\.0\.0\.1:9 cannot be written to"):
        sweep.sync()


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
        sweep.sync()
        late = names_of(sweep), points_of(sweep)
        sweep.sync()
        assert (names_of(sweep), points_of(sweep)) == late, "twice gives no more"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
    beside = toy_sweep(tmp_path, tmp_path / "runs", **{**changes, "tracking": {}})
    beside.sync()
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
