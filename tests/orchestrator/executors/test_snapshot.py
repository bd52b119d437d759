"""How long a run has to go, by hand: two groups of jobs, and kinds of which none was run."""

from __future__ import annotations

import pytest

from orchestrator.executors.snapshot import RunningJob, Snapshot, Tally, left_s

NOW = 1000.0


def test_time_left_is_the_work_of_jobs_like_those_done_shared_by_the_jobs_at_work() -> None:
    """3 x 10 s of the small shape, 2 x 40 s of the large one, less the 5 and 15 s that two jobs have worked: 90 s."""
    tallies = {"train small": Tally(over=2, timed=2, seconds=20.0), "train large": Tally(1, 1, 40.0)}
    running = (RunningJob("a", "train", NOW - 5), RunningJob("b", "train", NOW - 15))
    left = left_s(Snapshot(running=running, tallies=tallies), {"train small": 5, "train large": 3}, NOW)
    assert left == pytest.approx(45)


def test_a_shape_of_which_none_was_run_takes_as_long_as_its_kind() -> None:
    left = left_s(Snapshot(tallies={"train small": Tally(4, 2, 60.0)}), {"train small": 4, "train large": 2}, NOW)
    assert left == pytest.approx(60)


def test_nothing_is_said_while_a_kind_has_not_been_run() -> None:
    assert left_s(Snapshot(tallies={"train": Tally(1, 1, 9.0)}), {"train": 1, "attack": 1}, NOW) is None


def test_a_job_has_as_long_to_go_as_its_steps_at_the_speed_of_those_so_far() -> None:
    """20 steps in 10 s, 60 to go."""
    assert RunningJob("a", "train", NOW - 10, step=20, steps=80).left_s(NOW) == pytest.approx(30)
    assert RunningJob("a", "train", NOW - 10).left_s(NOW) is None
    assert RunningJob("a", "train", NOW + 10, step=20, steps=80).left_s(NOW) == 0, "a clock that was set back"
