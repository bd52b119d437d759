"""Results that are published while a sweep runs: MLflow may be away, and nothing waits for it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.cli import publishing
from orchestrator.cli.publishing import Publisher
from orchestrator.errors import TrackingUnavailable
from orchestrator.executors.inline import InlineExecutor
from orchestrator.executors.snapshot import Snapshot
from orchestrator.sweep import Sweep
from tests.support.processes import wait_until
from tests.support.toy import toy_sweep


@pytest.fixture
def _in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(publishing, "LEAST_PAUSE_S", 0.0)
    monkeypatch.setattr(publishing, "SHARE", 0.0)


def half_done(tmp_path: Path, *, every_s: float) -> Sweep:
    """A sweep one of whose trials is done, as one that goes on; its results are published every so many seconds."""
    sweep = toy_sweep(tmp_path, tmp_path / "runs", search={"space": {}, "seeds": [0]}, defenses=[])
    sweep.run(InlineExecutor(), spec_file=None)
    tracking = sweep.resolved.spec.tracking.model_copy(update={"enabled": True, "every_s": every_s})
    spec = sweep.resolved.spec.model_copy(update={"tracking": tracking})
    return replace(sweep, resolved=sweep.resolved.model_copy(update={"spec": spec}))


@pytest.mark.usefixtures("_in_haste")
def test_a_server_that_is_away_is_said_once_and_caught_up_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, updates, screen = [0], [0], io.StringIO()

    def sync(self: Sweep, *, at_work: bool, is_wanted: Callable[[], bool]) -> int:
        assert at_work
        updates[0] += 1
        ended[0] += 1  # a trial ends after each
        if updates[0] < 4:
            raise TrackingUnavailable("MLflow at http://host cannot be written to: gone.")
        return 1

    monkeypatch.setattr(Sweep, "sync", sync)
    ended[0] = 1
    sweep = half_done(tmp_path, every_s=1e6)
    with Publisher(sweep, lambda: Snapshot(trials_done=ended[0]), Console(file=screen, width=200), started=0.0):
        wait_until(lambda: updates[0] >= 5)
    assert screen.getvalue().count("cannot be written to: gone. The sweep goes on") == 1
    assert screen.getvalue().count("MLflow is back") == 1


@pytest.mark.usefixtures("_in_haste")
def test_tables_and_report_are_there_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sweep, "sync", lambda self, *, at_work, is_wanted: 0)
    sweep = half_done(tmp_path, every_s=0.0)
    assert not sweep.paths.summary.exists()
    with Publisher(sweep, lambda: Snapshot(trials_done=1), Console(file=io.StringIO()), started=0.0):
        wait_until(sweep.paths.report.exists)
    assert sweep.paths.summary.is_file()
    assert sweep.paths.table("trials").is_file()
