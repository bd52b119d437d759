"""The ledger: events are read back in the order they were appended, whatever happened to the writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import RequestError
from orchestrator.store.ledger import Ledger, read_events, run_state


def test_events_come_back_in_the_order_they_were_appended_after_a_reopen(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        ledger.append("job_started", key="a")
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        ledger.append("job_done", key="a", kind="probe", facts={})
    assert [event["event"] for event in read_events(tmp_path / "ledger.jsonl")] == ["job_started", "job_done"]


def test_a_line_torn_by_a_killed_writer_is_left_out_and_then_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    with Ledger(file) as ledger:
        ledger.append("job_started", key="a")
    file.write_bytes(file.read_bytes() + b'{"event": "job_do')
    assert len(list(read_events(file))) == 1
    with Ledger(file) as ledger:
        ledger.append("job_started", key="b")
    assert [event["key"] for event in read_events(file)] == ["a", "b"]


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with (
        Ledger(tmp_path / "ledger.jsonl"),
        pytest.raises(RequestError, match="another process is running this sweep"),
    ):
        Ledger(tmp_path / "ledger.jsonl")


def test_a_damaged_line_in_the_middle_is_an_error_with_its_number(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    file.write_text('{"event": "x", "time": 0}\nnot json\n{"event": "x", "time": 0}\n')
    with pytest.raises(RequestError, match=r"ledger\.jsonl:2: not an event"):
        list(read_events(file))


def test_the_state_of_a_run_keeps_the_last_outcome_of_a_trial(tmp_path: Path) -> None:
    facts: dict[str, Any] = {"trial": "t", "point": 0, "params": {}, "seed": 0, "baseline": True}
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        ledger.append("trial_started", **facts)
        ledger.append("trial_failed", trial="t", error="broken")
        ledger.append("trial_started", **facts)
        ledger.append("trial_done", trial="t", metrics={"natural_accuracy": 0.5})
    trial = run_state(tmp_path / "ledger.jsonl").trials["t"]
    assert (trial.status, trial.error, trial.metrics) == ("done", "", {"natural_accuracy": 0.5})


def test_a_job_has_failed_only_if_it_was_not_tried_again_and_not_done_later(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        ledger.append("job_failed", key="retried", final=False)
        for key in ("given up", "done later"):
            ledger.append("job_failed", key=key, final=True)
        ledger.append("job_done", key="done later")
    state = run_state(tmp_path / "ledger.jsonl")
    assert (set(state.jobs_failed), set(state.jobs_done)) == ({"given up"}, {"done later"})


def test_a_run_that_was_continued_started_when_it_first_did(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        first, again = ledger.append("sweep_started", commit="old"), ledger.append("sweep_started", commit="new")
    state = run_state(tmp_path / "ledger.jsonl")
    assert (state.started_at, state.updated_at) == (first["time"], again["time"])
    assert state.provenance["commit"] == "new"
