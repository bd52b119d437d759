"""Processes killed at any moment: finished work is kept, and the results are those of an undisturbed run."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.executors.inline import InlineExecutor
from orchestrator.store.ledger import read_events
from orchestrator.sweep import Sweep
from tests.support.toy import digests, finished_jobs, numbers, toy_sweep, write_spec
from workloads.core.checkpoints import load_state

pytestmark = pytest.mark.slow

PATIENCE_S = 120


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("undisturbed")
    sweep = toy_sweep(folder, folder / "runs")
    sweep.run(InlineExecutor(), spec_file=None)
    return sweep


def wait_until(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not claim():
        assert time.monotonic() < deadline, "the claim never came true"
        time.sleep(0.02)


def name_of(process: psutil.Process) -> str:
    """Name of a process; empty if it has just ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return str(process.name())
    return ""


def children_of(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return list(process.children(recursive=True))
    return []


def end(processes: Iterable[psutil.Process]) -> None:
    """Kill those that still run; psutil tells them apart by pid and time of birth."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def kill_a_run_once(sweep: Sweep, spec: Path, executor: str, claim: Callable[[], bool]) -> None:
    """Start `midre run` as a process of its own and SIGKILL it as soon as `claim` holds."""
    command = [sys.executable, "-m", "orchestrator", "run", str(spec), "--runs", str(sweep.workspace.root)]
    process = psutil.Popen([*command, "--executor", executor], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children: list[psutil.Process] = []
    try:
        wait_until(lambda: claim() or process.poll() is not None)
        assert process.poll() is None, "the run ended before it could be killed"
        children = children_of(process)
        agents = [child for child in children if "Agent" in name_of(child)]
        process.send_signal(signal.SIGKILL)
        process.wait()
        end(
            agents
        )  # Ray's own agents notice after a minute; processes that work for the sweep must notice by themselves
        _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
        assert not alive, "processes outlived their driver"
    finally:
        end([*children, *children_of(process), process])
        process.wait()


@pytest.mark.parametrize("after_jobs", [1, 4, 8])
def test_an_inline_sweep_killed_at_any_moment_continues_to_the_same_results(
    undisturbed: Sweep, tmp_path: Path, after_jobs: int
) -> None:
    sweep = toy_sweep(tmp_path, tmp_path / "runs")
    kill_a_run_once(sweep, tmp_path / "toy.yaml", "inline", lambda: sum(finished_jobs(sweep).values()) >= after_jobs)
    sweep.run(InlineExecutor(), spec_file=None)
    assert digests(sweep) == digests(undisturbed)
    assert set(finished_jobs(sweep).values()) == {1}


@pytest.mark.ray
@pytest.mark.parametrize("after_jobs", [0, 3, 9])
def test_a_sweep_on_ray_killed_at_any_moment_continues_to_the_same_results(
    undisturbed: Sweep, tmp_path: Path, after_jobs: int
) -> None:
    sweep = toy_sweep(tmp_path, tmp_path / "runs")

    def is_at_work() -> bool:
        events = [event["event"] for event in read_events(sweep.paths.ledger)]
        return "job_started" in events and events.count("job_done") >= after_jobs

    kill_a_run_once(sweep, tmp_path / "toy.yaml", "ray", is_at_work)
    sweep.run(InlineExecutor(), spec_file=None)
    assert digests(sweep) == digests(undisturbed)
    assert set(finished_jobs(sweep).values()) == {1}


def test_an_adaptive_search_that_was_killed_continues_with_all_it_had_learned(tmp_path: Path) -> None:
    search: dict[str, Any] = {
        "space": {"defenses.0.max_area": {"kind": "uniform", "low": 0.2, "high": 0.8}},
        "sampler": {"kind": "tpe", "points": 5, "startup_points": 2},
        "seeds": [0],
    }
    (tmp_path / "undisturbed").mkdir()
    undisturbed = toy_sweep(tmp_path / "undisturbed", tmp_path / "undisturbed" / "runs", search=search)
    undisturbed.run(InlineExecutor(), spec_file=None)
    sweep = toy_sweep(tmp_path, tmp_path / "runs", search=search)
    done: dict[str, Any] = {}

    def four_are_done() -> bool:
        done.update({id: trial.metrics for id, trial in sweep.state().trials.items() if trial.status == "done"})
        return len(done) >= 4

    kill_a_run_once(sweep, write_spec(tmp_path, search=search), "inline", four_are_done)
    sweep.run(InlineExecutor(), spec_file=None)
    assert set(done) < set(numbers(sweep)), "finished trials are kept"
    assert numbers(sweep) == numbers(undisturbed), "and the sampler chose the points it would have chosen undisturbed"
    assert set(finished_jobs(sweep).values()) == {1}


@pytest.mark.ray
def test_a_worker_killed_during_training_changes_no_bit_of_the_results(tmp_path: Path) -> None:
    from orchestrator.executors.ray.executor import RayExecutor

    changes: dict[str, Any] = {
        "target": {"model": {"kind": "small_cnn", "width": 2, "stages": 2}, "training": {"epochs": 400}},
        "search": {"space": {}, "seeds": [0]},
        "defenses": [],
        "storage": {"checkpoint_every_s": 0.2},
    }
    (tmp_path / "undisturbed").mkdir()
    undisturbed = toy_sweep(tmp_path / "undisturbed", tmp_path / "undisturbed" / "runs", **changes)
    undisturbed.run(InlineExecutor(), spec_file=None)
    sweep = toy_sweep(tmp_path, tmp_path / "runs", **changes)
    target = sweep.plans()[0].job("target")
    checkpoint = sweep.store.checkpoint_file(target.key)
    over = threading.Event()
    kept: list[tuple[int, float]] = []  # epoch of the checkpoint when the worker was killed, and when that was

    def kill_the_worker() -> None:
        wait_until(lambda: checkpoint.exists() or over.is_set())
        workers = [child for child in children_of(psutil.Process()) if name_of(child).startswith("ray::Worker.run")]
        try:
            for worker in workers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.suspend()  # so that the checkpoint is the one that the next try finds
            kept.append((load_state(checkpoint)["job"]["epoch"], time.time()))
        finally:
            end(workers)

    killer = threading.Thread(target=kill_the_worker)
    killer.start()
    try:
        done = sweep.run(RayExecutor(), spec_file=None)
    finally:
        over.set()
        killer.join()
    lost = [event for event in read_events(sweep.paths.ledger) if event["event"] == "job_failed"]
    assert target.key in {event["key"] for event in lost}
    assert {event["cause"] for event in lost} == {"lost worker"}
    assert (done.trials_done, done.trials_failed) == (1, 0)
    assert digests(sweep) == digests(undisturbed)
    ((epoch, killed_at),) = kept
    history = sweep.store.read_json(target.key, "history.json")
    again = [row["step"] for row in history if row["time"] > killed_at]
    assert again == list(range(epoch + 1, 401)), "the next try continued from the checkpoint"
    assert [row["step"] for row in history] == list(range(1, 401))
