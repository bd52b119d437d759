"""What a job is told of its earlier tries."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from tests.support.interruptions import context_at
from workloads.context import Clock


def test_the_time_of_a_job_goes_on_from_the_checkpoint_it_continues(tmp_path: Path) -> None:
    begun_before = Clock(before=20.0, started=time.monotonic() - 100)
    replace(context_at(tmp_path, stop_after=9), clock=begun_before).checkpoint(lambda: {"step": 3})
    again = context_at(tmp_path)
    assert again.clock.seconds < 60
    assert again.resume() == {"step": 3}
    assert 120 <= again.clock.seconds < 180
