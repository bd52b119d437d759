"""What `midre status` says of a run that goes on, was stopped, or was lost."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli.commands import app
from orchestrator.cli.live_status import LiveStatus, StatusWriter, read_live_status
from orchestrator.cli.status import Status
from orchestrator.executors.snapshot import NodeUse, RunningJob, Snapshot, WaitingJob
from orchestrator.placement.nodes import Gpu, Node, Request, shortage
from orchestrator.store.ledger import Ledger
from orchestrator.store.paths import RunPaths
from tests.support.toy import toy_sweep

SNAPSHOT = Snapshot(
    jobs_cached=3,
    running=(
        RunningJob("a" * 64, "fit_prior", 0.0, 10, 40, {"loss": 0.25}, node="tiger", device="GPU 0"),
        RunningJob("b" * 64, "run_attack", 0.0, waits_for="waits for 1 CPU, of 2 others hold 2"),
    ),
    waiting=(WaitingJob("c" * 64, "run_attack", 0.0, "waits for fit_prior aaaaaaaa"),),
    nodes=(NodeUse("n", "tiger", 8, 2, 1, 0.5, 64.0, 32.0),),
)


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    """A run folder whose ledger has one trial done, one failed and one at work, of ten CPU and five GPU hours."""
    paths = RunPaths(tmp_path / "run")
    facts = {"seconds": 7200.0, "request": {"cpus": 5, "gpus": 2.5}}
    with Ledger(paths.ledger) as ledger:
        for trial in ("one", "two", "three"):
            ledger.append("trial_started", trial=trial, point=0, params={}, seed=0, baseline=False)
        ledger.append("job_done", key="d" * 64, kind="train_classifier", facts=facts)
        ledger.append("trial_done", trial="one", metrics={})
        ledger.append("trial_failed", trial="two", error="run_attack eee: ValueError: a mistake")
    paths.resolved.write_text("{}", encoding="utf-8")
    return paths


def write_live(paths: RunPaths, *, age_s: float, over: bool = False) -> None:
    live = LiveStatus(time.time() - age_s, "leopard", 17, over, trials=5, jobs=20, left_s=90.0, snapshot=SNAPSHOT)
    from pydantic import TypeAdapter

    paths.status.write_bytes(TypeAdapter(LiveStatus).dump_json(live))


def said(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["status", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_run_at_work_is_described_from_any_machine_that_sees_its_folder(paths: RunPaths) -> None:
    write_live(paths, age_s=1.0)
    text = said(paths.root)
    for part in (
        "running, process 17 on leopard, about 90 s left",
        "trials: 1 done, 1 failed, 1 at work, 2 to come",
        "jobs: 1 of 20 run, 0 failed, 3 from the store, 1 at work, 2 wait",
        "cost so far: 1 job, 10 CPU hours and 5 GPU hours",
        "tiger  GPU 0  10/40",
        "loss 0.25",
        "waits for 1 CPU, of 2 others hold 2",
        "waits for fit_prior aaaaaaaa",
        "2 of 8",
        "0.5 of 1",
        "two: run_attack eee: ValueError: a mistake",
    ):
        assert part in text


def test_the_same_is_there_for_programs(paths: RunPaths) -> None:
    write_live(paths, age_s=1.0)
    shape = json.loads(said(paths.root, "--json"))
    assert shape["state"] == "running"
    assert shape["trials"] == {"started": 1, "done": 1, "failed": 1, "to_come": 2, "confirming": 0}
    assert [job["kind"] for job in shape["running"]] == ["fit_prior"]
    assert [job["reason"] for job in shape["jobs_waiting"]][1] == "waits for fit_prior aaaaaaaa"
    assert shape["cost"] == {"jobs": 1, "cpu_hours": 10.0, "gpu_hours": 5.0}
    assert shape["left_s"] == 90


def test_a_driver_that_says_nothing_any_more_is_taken_for_lost(paths: RunPaths) -> None:
    write_live(paths, age_s=60.0)
    assert "process 17 on leopard has said nothing for 60 s" in said(paths.root)
    assert Status.of(paths.root).running == []


def test_a_run_that_is_over_has_nothing_at_work(paths: RunPaths) -> None:
    write_live(paths, age_s=1.0, over=True)
    assert "no process runs it" in said(paths.root)


def test_events_are_the_lines_of_the_ledger_without_one_that_is_still_written(paths: RunPaths) -> None:
    with paths.ledger.open("a", encoding="utf-8") as ledger:
        ledger.write('{"event": "half')
    lines = [json.loads(line)["event"] for line in said(paths.root, "--events").splitlines()]
    assert lines == [*["trial_started"] * 3, "job_done", "trial_done", "trial_failed"]


def test_the_writer_leaves_what_the_executor_says_and_that_it_is_over(tmp_path: Path) -> None:
    sweep = toy_sweep(tmp_path, tmp_path / "runs")
    with StatusWriter(sweep, lambda: SNAPSHOT, lambda text: None):
        pass
    live = read_live_status(sweep.paths.status)
    assert live is not None
    assert live.snapshot == SNAPSHOT
    assert (live.over, live.trials) == (True, 3)


def test_a_status_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text('{"of": "another version"}', encoding="utf-8")
    assert read_live_status(tmp_path / "status.json") is None


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (Request(cpus=4), "waits for 4 CPU, 2 free on tiger"),
        (Request(cpus=1, gpus=1.0), "waits for 1 GPU, 0.5 free on tiger"),
        (Request(cpus=3, memory_gb=9.0), "waits for 3 CPU, 2 free; 9 GiB of memory, 4 free on tiger"),
        (Request(), "waits for a worker"),
    ],
)
def test_what_is_short_is_said_with_numbers(request_: Request, reason: str) -> None:
    tiger = Node("t", 2, (Gpu(80.0, free=0.5),), 4.0, host="tiger")
    assert shortage(request_, [Node("l", 1, (), 64.0, host="leopard"), tiger]) == reason
