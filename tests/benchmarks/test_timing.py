"""The timers of the benchmarks, with clocks and loops that are worked out by hand."""

from __future__ import annotations

import pytest
import torch

from benchmarks import timing
from benchmarks.timing import Laps, Work, alternate, medians
from workloads.context import Progress


def test_contestants_take_turns_and_the_first_round_is_not_counted() -> None:
    order: list[str] = []
    ticks = iter([50.0, 60.0, 1.0, 10.0, 3.0, 30.0, 2.0, 20.0])

    def clock(work: Work) -> float:
        work()
        return next(ticks)

    times = alternate({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3, clock)
    assert order == ["a", "b"] * 4
    assert times == {"a": [1.0, 3.0, 2.0], "b": [10.0, 30.0, 20.0]}
    assert medians(times) == {"a": 2.0, "b": 20.0}


def test_laps_of_a_loop_leave_out_the_first_and_the_turns_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(timing, "now", lambda device: clock[0])

    def pass_time(seconds: float) -> None:
        clock[0] += seconds

    laps = Laps({"other": lambda: pass_time(8.0)}, steps=4, device=torch.device("cpu"))
    for step, seconds in ((5, 100.0), (15, 30.0), (25, 50.0)):
        pass_time(seconds)
        laps(Progress(step, 25, {}))
    assert laps.times == {"ours": [3.0, 5.0], "other": [2.0, 2.0]}
