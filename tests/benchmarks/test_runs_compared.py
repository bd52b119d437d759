"""The commands that compare two runs of a spec: bit for bit, and as far as intervals tell."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import agreement, determinism, running
from benchmarks.running import FailedRun, Place
from orchestrator.cli.opening import open_sweep
from orchestrator.executors.inline import InlineExecutor
from orchestrator.placement.machine import this_machine
from orchestrator.sweep import Sweep
from tests.support.toy import write_spec
from workloads.training import step

SEARCH = {"space": {}, "seeds": [0], "baseline": False}


def run_here(spec: Path, overrides: Sequence[str], runs: Path) -> Sweep:
    """Run a spec in this process, which is faster."""
    sweep = open_sweep(spec, overrides, runs=runs, nodes=[this_machine()])
    sweep.run(InlineExecutor(), spec_file=spec)
    sweep.publish(sweep.result(), seconds=0.0, jobs={"run": 0, "cached": 0, "failed": 0})
    return sweep


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(running, "run_apart", run_here)
    return write_spec(tmp_path, search=SEARCH)


def test_two_runs_are_the_same_bit_for_bit(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert determinism.main([str(spec)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["different"] == []
    assert report["numbers"] == 3  # natural accuracy; of gmi: attack accuracy, KNN distance
    assert report["files"] > 20


def test_a_last_bit_of_one_run_is_named(
    spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = step.cross_entropy
    runs: list[Path] = []

    def run_with_other_bits(spec: Path, overrides: Sequence[str], runs_folder: Path) -> Sweep:
        runs.append(runs_folder)
        monkeypatch.setattr(step, "cross_entropy", lambda *arguments: losses(*arguments) * (1 + 1e-6 * len(runs)))
        return run_here(spec, overrides, runs_folder)

    monkeypatch.setattr(running, "run_apart", run_with_other_bits)
    assert determinism.main([str(spec)]) == 1
    different = json.loads(capsys.readouterr().out)["different"]
    assert any("train_classifier" in line and "model.safetensors" in line for line in different)
    assert not any("fit_prior" in line for line in different)


def test_a_run_agrees_with_itself(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert agreement.main([str(spec), "--on", "cpu", "cpu:1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["places"] == ["cpu:1", "cpu:1"]
    assert report["agree"] and report["identical"] == len(report["numbers"]) == 3


def summary(*estimates: tuple[float, float, float]) -> dict[str, Any]:
    """A summary of one trial with these values and intervals."""
    names = ("value", "low", "high")
    numbers = {f"n{index}": dict(zip(names, estimate, strict=True)) for index, estimate in enumerate(estimates)}
    return {"trials": [{"id": "t", "attacks": {}, **numbers}]}


APART, NEAR = (0.9, 0.8, 1.0), (0.5, 0.4, 0.6)


@pytest.mark.parametrize(
    ("first", "second", "apart"),
    [
        ((0.5, 0.4, 0.6), (0.65, 0.6, 0.7), []),
        ((0.65, 0.6, 0.7), (0.5, 0.4, 0.6), []),
        ((0.5, 0.4, 0.6), (0.65, 0.61, 0.7), ["t n0"]),
        ((0.65, 0.61, 0.7), (0.5, 0.4, 0.6), ["t n0"]),
    ],
)
def test_numbers_agree_if_their_intervals_touch(
    first: tuple[float, float, float], second: tuple[float, float, float], apart: list[str]
) -> None:
    assert agreement.agreement(summary(first), summary(second))["apart"] == apart


@pytest.mark.parametrize(("far", "of", "agree"), [(1, 100, True), (2, 100, False), (2, 101, True), (1, 5, True)])
def test_one_number_in_a_hundred_may_lie_apart_by_chance(far: int, of: int, agree: bool) -> None:
    second = [APART] * far + [NEAR] * (of - far)
    assert agreement.agreement(summary(*[NEAR] * of), summary(*second))["agree"] is agree


def test_a_number_that_one_run_lacks_lies_apart() -> None:
    assert agreement.agreement(summary(NEAR, NEAR), summary(NEAR))["apart"] == ["t n1"]


def test_nothing_to_compare_is_no_agreement() -> None:
    assert not agreement.agreement(summary(), summary())["agree"]


@pytest.mark.parametrize(("text", "place"), [("cpu", Place("cpu", 1)), ("cuda:4", Place("cuda", 4))])
def test_a_place_is_a_device_with_threads(text: str, place: Place) -> None:
    assert Place.parse(text) == place
    assert f"resources.run_attack.gpus={int(place.device == 'cuda')}" in place.overrides()
    assert f"resources.fit_prior.cpus={place.threads}" in place.overrides()


@pytest.mark.parametrize("text", ["tpu", "cpu:0", "cpu:two", ""])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="write cpu or cuda"):
        Place.parse(text)


@pytest.mark.parametrize("command", [determinism.main, agreement.main])
def test_a_run_that_fails_is_said(
    command: Any, spec: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> Sweep:
        raise FailedRun("the run ended with status 1")

    monkeypatch.setattr(running, "run_apart", fail)
    assert command([str(spec)]) == 2
    assert "ended with status 1" in capsys.readouterr().err
