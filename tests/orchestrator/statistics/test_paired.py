"""Paired differences: against scipy for one point, by hand where there are seeds, and in simulated sweeps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.verdicts import Design, false_verdicts, power, simulated
from orchestrator.statistics.paired import differences


def sweep(points: int, seeds: int, people: int = 30) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Values of a baseline and `points` points. Shape: (1 + points, seeds, people)."""
    return np.random.default_rng([points, seeds, people]).normal(0.5, 0.2, (1 + points, seeds, people))


def test_one_point_with_one_seed_has_the_interval_of_scipys_paired_test() -> None:
    baseline, point = sweep(1, 1)
    (difference,) = differences(baseline, point[None])
    expected = stats.ttest_rel(point[0], baseline[0]).confidence_interval(0.95)
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert difference.value == pytest.approx(point.mean() - baseline.mean())


def test_several_points_have_the_critical_value_of_the_largest_difference() -> None:
    """Without noise in the baseline each of four has the level 1 - 0.95^(1/4), as Sidak says."""
    numbers = sweep(4, 1, people=4000)
    apart = differences(np.zeros((1, 4000)), numbers[1:])
    assert [difference.critical for difference in apart] == pytest.approx([2.4909] * 4, abs=0.05)


def test_points_that_share_a_noisy_baseline_need_less_than_independent_ones() -> None:
    numbers = sweep(4, 1, people=4000)
    shared = differences(10 * numbers[0], numbers[1:])
    assert all(1.9 < difference.critical < 2.15 for difference in shared)  # nearly one and the same difference


def test_what_training_adds_is_in_the_error_and_in_the_degrees_of_freedom() -> None:
    # Seeds at 0.4 and 0.6 on one side, 0.2 and 0.4 on the other, the same for all of 9 people but for +-0.01 that does
    # not change the means: between seeds 0.02 for both. Squared error of training 2 * 0.02 / 2.
    wobble = np.array([0.01, -0.01, 0, 0, 0, 0, 0, 0.01, -0.01])
    baseline = np.stack([0.4 + wobble, 0.6 + wobble])
    point = np.stack([0.2 - wobble, 0.4 - wobble])
    (difference,) = differences(baseline, point[None])
    from_people = (4 * 0.02**2 / 8) / 9
    assert difference.value == pytest.approx(-0.2)
    assert difference.error**2 == pytest.approx(0.02 + from_people, rel=1e-6)
    degrees = (0.02 + from_people) ** 2 / (0.02**2 / 2 + from_people**2 / 8)
    assert difference.critical == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-6)
    assert difference.sign == 0


def test_two_points_whose_seeds_vary_unusually_are_not_lent_the_others_calm() -> None:
    numbers = sweep(8, 3, people=200)
    numbers[1] += np.array([[-0.5], [0.0], [0.5]])
    first, second, *_ = differences(numbers[0], numbers[1:])
    # Between seeds 0.25 and next to nothing: the mean of both for the first, of all nine for the others.
    assert first.error**2 == pytest.approx(2 * 0.125 / 3, rel=0.1)
    assert second.error**2 == pytest.approx(2 * 0.25 / 9 / 3, rel=0.1)


def test_people_who_all_agree_do_not_make_a_difference_certain() -> None:
    """Five people fall from 1 to 0 each; the next may not: one of seven against it is a standard error of 1/7."""
    (difference,) = differences(np.ones((1, 5)), np.zeros((1, 1, 5)), smallest_step=1.0)
    assert difference.error == pytest.approx(1 / 7)
    assert difference.high == pytest.approx(-1 + 2.77645 / 7, abs=1e-5)
    assert difference.sign == -1


def test_what_would_decide_a_difference_is_said() -> None:
    # Error 0.1 with critical 2 would need 0.05: four times the people. t barely changes from 400 people on.
    people = np.random.default_rng(0).normal(0, 1, 400)
    changes = (people - people.mean()) / people.std(ddof=1) * 2.0 + 0.1
    (difference,) = differences(np.zeros((1, 400)), changes[None, None])
    assert difference.sign == 0
    assert difference.more(difference.units) == pytest.approx(400 * (1.966 * 0.1 / 0.1) ** 2 - 400, abs=5)


def test_no_number_of_people_decides_what_training_blurs() -> None:
    numbers = sweep(1, 2, people=50)
    numbers[0] += np.array([[-0.4], [0.4]])
    (difference,) = differences(numbers[0], numbers[1:])
    assert difference.sign == 0
    assert difference.more(difference.units) is None


@pytest.mark.parametrize(
    "design",
    [
        Design(20, 1, 1),
        Design(20, 6, 2, training=0.05),
        Design(20, 20, 3, training=0.05),
        Design(20, 6, 2, training=0.05, judges=3, drawn=0.05),
        Design(20, 6, 1, priors=2, judges=3, drawn=0.05),
        Design(20, 6, 3, training=0.05, priors=3, judges=3, drawn=0.05),
    ],
    ids=str,
)
def test_without_effect_at_most_5_percent_of_sweeps_say_that_a_defense_helps(design: Design) -> None:
    said, _ = false_verdicts(design, sweeps=60)
    assert said <= 0.05 + 0.035  # one standard error of 60 sweeps is 2.8 points


@pytest.mark.parametrize("design", [Design(62, 1, 1), Design(62, 1, 3, priors=3, judges=3)], ids=str)
def test_a_fall_of_15_points_is_found_where_a_paired_test_finds_it(design: Design) -> None:
    ours, over_people, _ = power(design, fall=0.15, sweeps=60)
    assert ours >= over_people - 0.03
    assert over_people > 0.9


def test_two_trainings_find_more_than_their_own_two_differences_do() -> None:
    """With one degree of freedom, t is 12.7; that people vary as they do is known far better."""
    ours, over_people, over_trainings = power(Design(62, 1, 2), fall=0.15, sweeps=60)
    assert over_trainings + 0.4 < ours <= over_people


def test_simulated_sweeps_have_no_effect_but_the_one_asked_for() -> None:
    numbers = simulated(np.random.default_rng(0), Design(4000, 2, 2), fall=0.15)
    means = numbers.mean((1, 2, 3, 4))
    assert means[0] - means[2] == pytest.approx(0, abs=0.01)
    assert means[0] - means[1] == pytest.approx(0.14, abs=0.015)  # who is near 0 cannot fall by all of it


def test_what_all_points_share_of_a_judge_is_no_part_of_a_difference() -> None:
    """Judges who are 0.3 apart at both points alike add nothing; without them the error is that of people."""
    people = sweep(1, 1, people=12)[:, :, None]  # one training, one judge
    judges = np.concatenate([people, people + 0.3, people - 0.3], axis=2)
    (alone,) = differences(people[0], people[1:])
    (shared,) = differences(judges[0], judges[1:])
    assert shared.error == pytest.approx(alone.error, rel=1e-9)
    assert [part.count for part in shared.draws] == [1, 3]


def test_judges_who_see_a_point_otherwise_are_in_its_error() -> None:
    """Differences of 0, 0.3 and 0.6 by judge, the same for all people: squared error 0.09 / 3, with 2 degrees."""
    wobble = np.random.default_rng(0).normal(0, 1e-6, 8)
    baseline = np.stack([wobble] * 3)[None]
    point = (baseline + np.array([0.0, 0.3, 0.6])[None, :, None])[None]
    (difference,) = differences(baseline, point)
    assert difference.value == pytest.approx(0.3)
    assert difference.error**2 == pytest.approx(0.03, rel=1e-3)
    assert difference.critical == pytest.approx(stats.t.ppf(0.975, 2), rel=1e-2)
    assert difference.sign == 0
