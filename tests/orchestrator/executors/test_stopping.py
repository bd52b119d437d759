"""A run that hears signals: this process sends them to itself."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from orchestrator.executors.inline import InlineExecutor
from orchestrator.executors.stopping import Stop
from orchestrator.executors.time_limit import time_limit
from orchestrator.store.ledger import read_events
from tests.support.interruptions import context_at
from tests.support.toy import toy_sweep
from workloads.core.errors import JobStopped


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_is_a_request_and_the_second_an_exit(number: signal.Signals, status: int) -> None:
    stop, before = Stop(), signal.getsignal(number)
    with stop.listening():
        signal.raise_signal(number)
        assert stop.is_requested
        with pytest.raises(SystemExit) as exit_at_once:
            signal.raise_signal(number)
    assert (stop.reason, stop.exit_status, exit_at_once.value.code) == (number.name, status, status)
    assert signal.getsignal(number) is before


def test_signals_are_taken_back_from_a_library_that_takes_them_in_between() -> None:
    stop = Stop()
    with stop.listening():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with stop.listening():
            signal.raise_signal(signal.SIGTERM)
    assert stop.reason == "SIGTERM"


def test_work_that_saves_nothing_is_cut_short_when_the_grace_is_over() -> None:
    stop = Stop(grace_s=0.01)
    with stop.listening(), stop.cutting_short(), pytest.raises(JobStopped):
        signal.raise_signal(signal.SIGINT)
        time.sleep(10)


def test_a_job_with_a_limit_of_time_is_stopped_and_not_taken_for_one_that_took_too_long() -> None:
    stop = Stop(grace_s=0.01)
    with stop.listening(), stop.cutting_short(), time_limit(60), pytest.raises(JobStopped):
        signal.raise_signal(signal.SIGINT)
        time.sleep(10)


def test_what_follows_a_request_is_called_once_and_only_after_one() -> None:
    calls: list[str] = []
    with Stop().followed_by(lambda: calls.append("never asked")):
        pass
    stop, called = Stop(), threading.Event()
    with stop.followed_by(called.set):
        stop.request()
        assert called.wait(10)
    assert not calls


def test_a_job_that_is_to_end_saves_where_it_stands_though_it_was_not_yet_time(tmp_path: Path) -> None:
    context = context_at(tmp_path / "job")
    context.should_stop = lambda: True
    with pytest.raises(JobStopped):
        context.checkpoint(lambda: {"weights": torch.tensor([2.0])})
    saved = context_at(tmp_path / "job").resume()
    assert saved is not None
    assert saved["weights"].item() == 2


def test_an_inline_run_that_is_asked_to_end_begins_no_job(tmp_path: Path) -> None:
    sweep, stop = toy_sweep(tmp_path, tmp_path / "runs"), Stop()
    stop.request(signal.SIGTERM)
    sweep.run(InlineExecutor(), spec_file=None, stop=stop)
    assert [event["event"] for event in read_events(sweep.paths.ledger)] == [
        "sweep_started",
        "trial_started",
        "sweep_stopped",
    ]
