"""A service is not asked more often or faster than it may be, whatever happens to the job."""

from __future__ import annotations

import pytest

from workloads.black_boxes.meter import QueryMeter, TokenBucket
from workloads.core.errors import BudgetError


class Clock:
    """A clock that a sleep moves."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, list[float]()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_a_bucket_begins_empty_and_waits_for_what_is_taken() -> None:
    clock = Clock()
    bucket = TokenBucket(10.0, clock, clock.sleep)
    for _ in range(3):
        bucket.take(5)  # 5 images at 10 a second are half a second each
    assert clock.slept == pytest.approx([0.5, 0.5, 0.5])


def test_a_bucket_saves_up_a_second_and_no_more() -> None:
    clock = Clock()
    bucket = TokenBucket(10.0, clock, clock.sleep)
    clock.now = 60.0
    bucket.take(10)
    assert clock.slept == []
    bucket.take(20)
    assert clock.slept == pytest.approx([2.0])


def test_a_budget_holds_over_the_tries_of_a_job_and_over_what_prepared_it() -> None:
    kept: list[int] = []
    first = QueryMeter(budget=100, sent_by_others=30, keep=kept.append)
    first.take(40)
    again = QueryMeter(budget=100, sent_by_others=30, sent=kept[-1], keep=kept.append)
    again.take(30)
    with pytest.raises(BudgetError, match=r"budget of 100 images is used up: 100 were sent.* next call has 1\."):
        again.take(1)
    assert kept == [40, 70]
