"""Whole sweeps, small: the same numbers from every executor, and nothing done twice."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import orchestrator.sweep
from orchestrator.errors import RequestError
from orchestrator.executors.base import Executor
from orchestrator.executors.inline import InlineExecutor
from orchestrator.results.summary import summary
from orchestrator.store.ledger import Ledger, read_events
from orchestrator.sweep import Sweep
from tests.support.toy import digests, finished_jobs, numbers, toy_sweep


def run(sweep: Sweep, executor: Executor) -> Any:
    return sweep.run(executor, spec_file=None)


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("inline")
    sweep = toy_sweep(folder, folder / "runs")
    run(sweep, InlineExecutor())
    return sweep


def test_an_inline_sweep_finishes_every_trial_with_every_number(inline: Sweep) -> None:
    assert len(numbers(inline)) == 3
    for metrics in numbers(inline).values():
        assert set(metrics) == {"natural_accuracy", "gmi.attack_accuracy", "gmi.knn_distance"}


def test_running_again_runs_no_job(inline: Sweep) -> None:
    before = finished_jobs(inline)
    done = run(inline, InlineExecutor())
    assert (done.jobs_run, done.trials_done) == (0, 3)
    assert finished_jobs(inline) == before


def test_shared_jobs_run_once(inline: Sweep) -> None:
    assert set(finished_jobs(inline).values()) == {1}
    kinds = Counter(event["kind"] for event in read_events(inline.paths.ledger) if event["event"] == "job_done")
    assert (kinds["fit_prior"], kinds["train_classifier"]) == (1, 4)


def test_a_damaged_artifact_is_moved_aside_and_made_again_alike(tmp_path: Path) -> None:
    sweep = toy_sweep(tmp_path, tmp_path / "runs")
    run(sweep, InlineExecutor())
    before = digests(sweep)
    victim = next(sweep.workspace.store.rglob("model.safetensors"))
    victim.write_bytes(victim.read_bytes()[:-1] + b"\x01")
    done = run(sweep, InlineExecutor())
    assert done.jobs_run == 1
    assert digests(sweep) == before
    assert [e["event"] for e in read_events(sweep.paths.ledger)].count("artifact_damaged") == 1


def test_a_failing_job_fails_its_trials_and_the_sweep_goes_on(tmp_path: Path) -> None:
    space = {"target.training.lr": {"kind": "choice", "values": [1e20, 0.01]}}
    sweep = toy_sweep(tmp_path, tmp_path / "runs", search={"space": space, "seeds": [0], "baseline": False})
    run(sweep, InlineExecutor())
    trials = sorted(sweep.state().trials.values(), key=lambda trial: trial.point)
    assert [trial.status for trial in trials] == ["failed", "done"]
    assert "DivergedError: loss became" in trials[0].error


def test_a_copied_run_folder_is_read_where_it_lies(inline: Sweep) -> None:
    copy = inline.paths.root.with_name("under_another_name")
    shutil.copytree(inline.paths.root, copy)
    read = Sweep.reopened(copy)
    assert read.paths.root == copy
    assert [trial.status for trial in read.result().trials] == ["done"] * 3


def test_a_run_made_by_other_versions_of_components_is_refused(inline: Sweep, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    shutil.copy(inline.paths.resolved, tmp_path / "old")
    with Ledger(tmp_path / "old" / inline.paths.ledger.name) as ledger:
        ledger.append("sweep_started", sweep="toy-00000000")
    with pytest.raises(RequestError, match=rf"was made as toy-00000000, which is {inline.id} now"):
        Sweep.reopened(tmp_path / "old")


def test_a_second_driver_that_is_refused_changes_nothing(
    inline: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orchestrator.sweep, "LEDGER_PATIENCE_S", 0.0)
    storage = inline.resolved.spec.storage.model_copy(update={"artifacts": str(tmp_path / "elsewhere")})
    spec = inline.resolved.spec.model_copy(update={"storage": storage})
    second = Sweep(inline.resolved.model_copy(update={"spec": spec}), inline.workspace)
    assert second.id == inline.id
    before = inline.paths.resolved.read_bytes()
    with Ledger(inline.paths.ledger), pytest.raises(RequestError, match="another process is running this sweep"):
        run(second, InlineExecutor())
    assert inline.paths.resolved.read_bytes() == before


def test_a_confirmed_sweep_reports_from_fresh_draws_and_runs_no_job_again(tmp_path: Path) -> None:
    space = {"defenses.0.max_area": {"kind": "choice", "values": [0.3]}}
    search = {"space": space, "seeds": [0], "confirm": {"points": "best", "seeds": 1}}
    sweep = toy_sweep(tmp_path, tmp_path / "runs", search=search)
    run(sweep, InlineExecutor())
    result = sweep.result()
    assert [(trial.plan.trial.stage, trial.status) for trial in result.trials] == [
        ("search", "done"), ("search", "done"), ("confirm", "done"), ("confirm", "done"),
    ]  # fmt: skip
    assert result.stage == "confirm" and set(result.judges) == {0, 1}
    shape = summary(result, run="", seconds=0.0, jobs={})
    assert [change["number"] for change in shape["optimism"]] == ["natural_accuracy", "gmi.attack_accuracy"]
    assert run(sweep, InlineExecutor()).jobs_run == 0
    assert Sweep.reopened(sweep.paths.root).result().pareto() == result.pareto()
