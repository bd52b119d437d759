"""How much too good a picked point looked, and that a confirmation does not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.verdicts import Design, optimism, simulated
from orchestrator.statistics.optimism import shrinkage


def test_with_one_draw_a_side_it_is_the_paired_t_interval_of_scipy() -> None:
    rng = np.random.default_rng(0)
    first, fresh = rng.random((1, 1, 1, 30)), rng.random((1, 1, 1, 30))
    value, low, high = shrinkage(first, fresh)
    expected = stats.ttest_rel(first.ravel(), fresh.ravel()).confidence_interval()
    assert value == pytest.approx(first.mean() - fresh.mean())
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_what_trainings_move_all_people_by_is_in_the_error_of_each_side() -> None:
    """Two trainings at 0 and 2, then three at 0, 3 and 6, no people differing: squared error 2 / 2 + 9 / 3 = 4.

    Degrees of Satterthwaite: 4^2 / (1^2 / 1 + 3^2 / 2) = 32 / 11.
    """
    first, fresh = (np.repeat(np.array(means)[:, None], 5, axis=1) for means in ([0.0, 2.0], [0.0, 3.0, 6.0]))
    value, low, high = shrinkage(first, fresh)
    assert value == pytest.approx(-2)
    assert (high - low) / 2 == pytest.approx(2 * stats.t.ppf(0.975, 32 / 11))


def test_units_that_all_agree_leave_an_interval() -> None:
    """Six people alike: the error is 1 / 8, and t has 5 degrees of freedom."""
    _, low, high = shrinkage(np.ones((1, 6)), np.ones((1, 6)), smallest_step=1.0)
    assert (low, high) == pytest.approx((-stats.t.ppf(0.975, 5) / 8, stats.t.ppf(0.975, 5) / 8))


def test_intervals_hold_no_change_in_95_percent_of_simulated_confirmations() -> None:
    rng = np.random.default_rng(1)
    held = []
    for _ in range(200):
        numbers = simulated(rng, Design(30, 1, 5, 0.05))[1]
        _, low, high = shrinkage(numbers[:2], numbers[2:])
        held.append(low <= 0 <= high)
    assert np.mean(held) > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 200)


def test_the_best_of_six_points_is_flattered_by_points_and_confirmed_it_is_not() -> None:
    before, after = optimism(Design(62, 6, 1, 0.05), sweeps=200)
    assert before > 0.03
    assert abs(after) < 0.01
