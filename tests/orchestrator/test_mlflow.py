"""Export to MLflow: the tree of runs, and that a second export adds nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from orchestrator.errors import TrackingUnavailable
from orchestrator.executors.inline import InlineExecutor
from orchestrator.paths import without_password
from orchestrator.sweep import Sweep
from tests.toy import toy_sweep

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("mlflow")
    sweep = toy_sweep(folder, folder / "runs", search={"space": {}, "seeds": [0]}, defenses=[])
    sweep.run(InlineExecutor(), spec_file=None)
    sweep.publish(seconds=0.0, jobs={})
    sweep.sync()
    return sweep


def runs_of(sweep: Sweep) -> dict[str, str]:
    client = MlflowClient(sweep.mlflow_uri)
    experiment = client.get_experiment_by_name("midre")
    assert experiment is not None
    return {run.data.tags["midre.id"]: run.info.run_id for run in client.search_runs([experiment.experiment_id])}


def points_of(sweep: Sweep) -> int:
    client = MlflowClient(sweep.mlflow_uri)
    return sum(
        len(client.get_metric_history(run, name))
        for run in runs_of(sweep).values()
        for name in client.get_run(run).data.metrics
    )


def test_a_sweep_is_a_run_with_its_trials_and_their_jobs_below(sweep: Sweep) -> None:
    (plan,) = sweep.plans()
    trial = f"{sweep.id}/{plan.trial.id}"
    assert set(runs_of(sweep)) == {sweep.id, trial, *(f"{trial}/{role}" for role in plan.roles)}


def test_a_trial_carries_its_numbers_with_their_intervals(sweep: Sweep) -> None:
    (trial,) = sweep.result().trials
    run = MlflowClient(sweep.mlflow_uri).get_run(runs_of(sweep)[f"{sweep.id}/{trial.id}"])
    for name, estimate in trial.estimates().items():
        assert run.data.metrics[name] == estimate["value"]
        assert run.data.metrics[f"{name}.low"] == estimate["low"]


def test_no_weights_go_through_the_server(sweep: Sweep) -> None:
    client = MlflowClient(sweep.mlflow_uri)
    names = {artifact.path for run in runs_of(sweep).values() for artifact in client.list_artifacts(run)}
    assert {"manifest.json", "pairs.png", "samples.png", "resolved.json"} <= names
    assert not any(name.endswith(".safetensors") for name in names)


def test_a_second_export_adds_no_run_and_no_point(sweep: Sweep) -> None:
    before = runs_of(sweep), points_of(sweep)
    sweep.sync()
    assert (runs_of(sweep), points_of(sweep)) == before


def test_an_export_to_a_wiped_server_gives_the_same_runs_and_points(sweep: Sweep, tmp_path: Path) -> None:
    before = set(runs_of(sweep)), points_of(sweep)
    (sweep.workspace.root / "mlflow.db").rename(tmp_path / "old.db")
    sweep.sync()
    assert (set(runs_of(sweep)), points_of(sweep)) == before


def test_an_unreachable_server_is_one_line(tmp_path: Path) -> None:
    tracking = {"uri": "http://127.0.0.1:9"}
    sweep = toy_sweep(tmp_path, tmp_path / "runs", tracking=tracking)
    with pytest.raises(TrackingUnavailable, match=r"MLflow at http://127\.0\.0\.1:9 cannot be written to"):
        sweep.sync()


def test_a_password_in_an_address_is_not_shown() -> None:
    assert without_password("https://me:secret@host/path") == "https://***@host/path"
