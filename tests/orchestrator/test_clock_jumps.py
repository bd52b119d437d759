"""A clock that is set back while a sweep runs: nothing takes less than no time, and the numbers are the same."""

from __future__ import annotations

import itertools
import json
import re
import time

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from orchestrator.cli.commands import app
from orchestrator.cli.live_status import StatusWriter
from orchestrator.executors.inline import InlineExecutor
from orchestrator.executors.snapshot import RunningJob, Snapshot, WaitingJob
from orchestrator.store.ledger import read_events
from orchestrator.sweep import Sweep
from tests.support.processes import wait_until
from tests.support.toy import digests, toy_sweep

pytestmark = pytest.mark.slow
JUMP_S = 100.0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("undisturbed")
    sweep = toy_sweep(folder, folder / "runs")
    sweep.run(InlineExecutor(), spec_file=None)
    return sweep


@pytest.fixture(scope="module")
def set_back(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A sweep whose every look at the clock finds it earlier than the one before."""
    folder, looks, began = tmp_path_factory.mktemp("set-back"), itertools.count(), time.time()
    sweep = toy_sweep(folder, folder / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: began - JUMP_S * next(looks))
        sweep.run(InlineExecutor(), spec_file=None)
        sweep.publish(sweep.result(), seconds=0.0, jobs={})
    sweep.sync()
    return sweep


def test_the_ledger_is_in_the_order_of_what_happened_and_no_trial_ends_before_it_began(set_back: Sweep) -> None:
    times = [event["time"] for event in read_events(set_back.paths.ledger)]
    assert times == sorted(times, reverse=True), "the clock was set back between any two events"
    trials = set_back.state().trials.values()
    assert all(trial.ended_at is not None and trial.ended_at >= trial.started_at for trial in trials)


def test_no_job_took_less_than_no_time(set_back: Sweep) -> None:
    jobs = [event for event in read_events(set_back.paths.ledger) if event["event"] == "job_done"]
    assert jobs
    assert all(event["facts"]["seconds"] >= 0 for event in jobs)
    summary = json.loads(set_back.paths.summary.read_text())
    seconds = [attack["seconds"] for trial in summary["trials"] for attack in trial["attacks"].values()]
    assert len(seconds) == len(set_back.plans())
    assert min(seconds) >= 0


def test_no_run_in_mlflow_ends_before_it_began_and_no_curve_goes_back(set_back: Sweep) -> None:
    client = MlflowClient(set_back.mlflow_uri)
    experiment = client.get_experiment_by_name("midre")
    assert experiment is not None
    runs: list[Run] = list(client.search_runs([experiment.experiment_id]))
    assert len(runs) == 1 + len(set_back.plans())
    assert all(run.info.end_time >= run.info.start_time for run in runs)
    for run in runs:
        for name in run.data.metrics:
            points = sorted(client.get_metric_history(run.info.run_id, name), key=lambda point: point.step)
            times = [point.timestamp for point in points if name.startswith("target/")]
            assert times == sorted(times)


def test_status_shows_no_time_below_zero(set_back: Sweep) -> None:
    later = time.time() + JUMP_S
    snapshot = Snapshot(
        running=(RunningJob("a" * 64, "fit_prior", later), RunningJob("b" * 64, "run_attack", later, 1, 2)),
        waiting=(WaitingJob("c" * 64, "run_attack", later, "waits for fit_prior aaaaaaaa"),),
    )
    with StatusWriter(set_back, lambda: snapshot, print):
        wait_until(set_back.paths.status.exists)
        said = CliRunner().invoke(app, ["status", str(set_back.paths.root)]).stdout
    assert "3 done" in said
    assert "fit_prior" in said
    assert not re.search(r"\s-\d", said), said


def test_numbers_do_not_depend_on_the_clock(set_back: Sweep, undisturbed: Sweep) -> None:
    assert digests(set_back) == digests(undisturbed)
