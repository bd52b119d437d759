"""Processes killed at any moment: finished work is kept, and the results are those of an undisturbed run."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.executors.inline import InlineExecutor
from orchestrator.store.ledger import read_events
from orchestrator.sweep import Sweep
from tests.support.processes import PATIENCE_S, children_of, end, is_of_ray_alone, listening_addresses, wait_until
from tests.support.toy import digests, finished_jobs, numbers, toy_sweep, write_spec

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("undisturbed")
    sweep = toy_sweep(folder, folder / "runs")
    sweep.run(InlineExecutor(), spec_file=None)
    return sweep


LONG_PRIOR = {"kind": "wgan_gp", "width": 2, "steps": 300, "batch_size": 8, "latent_size": 8}
"""One that a signal finds at work."""


@pytest.fixture(scope="module")
def undisturbed_long(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("undisturbed-long")
    sweep = toy_sweep(folder, folder / "runs", prior=LONG_PRIOR)
    sweep.run(InlineExecutor(), spec_file=None)
    return sweep


def kill_a_run_once(sweep: Sweep, spec: Path, executor: str, claim: Callable[[], bool]) -> None:
    """Start `midre run` in another process and SIGKILL it as soon as `claim` holds."""
    command = [sys.executable, "-m", "orchestrator", "run", str(spec), "--runs", str(sweep.workspace.root)]
    process = psutil.Popen([*command, "--executor", executor], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children: list[psutil.Process] = []
    try:
        wait_until(lambda: claim() or process.poll() is not None)
        assert process.poll() is None, "the run ended before it could be killed"
        children = children_of(process)
        reachable = {address for child in children for address in listening_addresses(child)}
        assert all(ip_address(address).is_loopback for address in reachable), reachable
        process.send_signal(signal.SIGKILL)
        process.wait()
        # Ray's own processes notice after a minute; those that work for the sweep must notice by themselves.
        end(filter(is_of_ray_alone, children))
        _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
        assert not alive, "processes outlived their driver"
    finally:
        end([*children, *children_of(process), process])
        process.wait()


def stop_a_run(sweep: Sweep, spec: Path, executor: str, number: signal.Signals) -> tuple[int, str]:
    """Start `midre run`, send it a signal while it fits its prior, and return its exit status and what it printed."""
    command = [sys.executable, "-m", "orchestrator", "run", str(spec), "--runs", str(sweep.workspace.root)]
    with tempfile.TemporaryFile("w+") as output:
        process = psutil.Popen([*command, "--executor", executor], stdout=output, stderr=output)
        children: list[psutil.Process] = []
        try:
            wait_until(lambda: process.poll() is not None or fits_its_prior(sweep))
            assert process.poll() is None, "the run ended before it could be stopped"
            children = children_of(process)
            process.send_signal(number)
            status = process.wait(PATIENCE_S)
            _, alive = psutil.wait_procs(children, timeout=5)
            assert not alive, "processes outlived their driver"
        finally:
            end([*children, *children_of(process), process])
        output.seek(0)
        return status, output.read()


def fits_its_prior(sweep: Sweep) -> bool:
    events = [event["event"] for event in read_events(sweep.paths.ledger) if event.get("kind") == "fit_prior"]
    return events == ["job_started"]


@pytest.mark.parametrize(
    ("executor", "number", "expected"),
    [
        ("inline", signal.SIGTERM, 143),
        pytest.param("ray", signal.SIGINT, 130, marks=pytest.mark.ray),
    ],
)
def test_a_run_that_is_stopped_saves_its_jobs_says_how_to_continue_and_does(
    undisturbed_long: Sweep, tmp_path: Path, executor: str, number: signal.Signals, expected: int
) -> None:
    sweep = toy_sweep(tmp_path, tmp_path / "runs", prior=LONG_PRIOR)
    status, output = stop_a_run(sweep, tmp_path / "toy.yaml", executor, number)
    assert status == expected
    assert f"Stopped by {number.name}. Continue with: midre run" in output
    assert "Traceback" not in output
    assert sweep.paths.summary.exists()
    assert sweep.paths.report.exists()
    stopped = {event["key"] for event in read_events(sweep.paths.ledger) if event["event"] == "job_stopped"}
    assert stopped == {file.stem for file in (sweep.workspace.store / "checkpoints").iterdir()}, "where they stood"
    assert stopped
    sweep.run(InlineExecutor(), spec_file=None)
    assert digests(sweep) == digests(undisturbed_long)
    assert set(finished_jobs(sweep).values()) == {1}


@pytest.mark.parametrize("after_jobs", [1, 8])
def test_an_inline_sweep_killed_at_any_moment_continues_to_the_same_results(
    undisturbed: Sweep, tmp_path: Path, after_jobs: int
) -> None:
    sweep = toy_sweep(tmp_path, tmp_path / "runs")
    kill_a_run_once(sweep, tmp_path / "toy.yaml", "inline", lambda: sum(finished_jobs(sweep).values()) >= after_jobs)
    sweep.run(InlineExecutor(), spec_file=None)
    assert digests(sweep) == digests(undisturbed)
    assert set(finished_jobs(sweep).values()) == {1}


@pytest.mark.ray
def test_a_sweep_on_ray_killed_in_its_midst_continues_to_the_same_results(undisturbed: Sweep, tmp_path: Path) -> None:
    sweep = toy_sweep(tmp_path, tmp_path / "runs")

    def has_done_and_does_jobs() -> bool:
        events = [event["event"] for event in read_events(sweep.paths.ledger)]
        return 3 <= events.count("job_done") < events.count("job_started")

    kill_a_run_once(sweep, tmp_path / "toy.yaml", "ray", has_done_and_does_jobs)
    sweep.run(InlineExecutor(), spec_file=None)
    assert digests(sweep) == digests(undisturbed)
    assert set(finished_jobs(sweep).values()) == {1}


def test_an_adaptive_search_that_was_killed_continues_with_all_it_had_learned(tmp_path: Path) -> None:
    search: dict[str, Any] = {
        "space": {"defenses.0.max_area": {"kind": "uniform", "low": 0.2, "high": 0.8}},
        "sampler": {"kind": "tpe", "points": 5, "startup_points": 2},
        "seeds": [0],
    }
    undisturbed = toy_sweep(tmp_path, tmp_path / "undisturbed", search=search)
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
