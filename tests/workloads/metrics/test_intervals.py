"""Intervals hold the truth: against numbers worked out by hand, against scipy, and in simulated experiments."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks.coverage import can_lie_within, coverage, successes
from workloads.core.errors import ShapeError
from workloads.metrics.correlated_trials import CorrelatedTrials, distribution_of_total, interval_of_share
from workloads.metrics.intervals import Scale, interval_of_mean, over_groups, over_images, wilson

# Wilson


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [
        # (p + z2 / 2n -+ z sqrt(p (1 - p) / n + z2 / 4n2)) / (1 + z2 / n) with z2 = 3.8415, worked by hand:
        (8, 10, 0.4902, 0.9433),  # (0.8 + 0.19207 -+ 0.31347) / 1.38415
        (0, 10, 0.0, 0.2775),  # 0 and z2 / (n + z2) = 3.8415 / 13.8415
        (10, 10, 0.7225, 1.0),  # n / (n + z2) = 10 / 13.8415 and 1
        (1, 1, 0.2065, 1.0),  # 1 / 4.8415
    ],
)
def test_wilson_is_the_interval_worked_out_by_hand(correct: int, n: int, low: float, high: float) -> None:
    estimate = wilson(correct, n)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("n", [1, 7, 50, 1000])
def test_wilson_agrees_with_scipy(n: int) -> None:
    for correct in {0, 1, n // 3, n - 1, n}:
        expected = stats.binomtest(correct, n).proportion_ci(method="wilson")
        estimate = wilson(correct, n)
        assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_nothing_is_refused() -> None:
    with pytest.raises(ShapeError, match="at least one observation, got 0"):
        wilson(0, 0)


# Shares of success


def test_the_distribution_of_a_total_is_that_of_scipys_laws() -> None:
    # Two identities of three trials: correlation 1/4 at a share of 2/5 is the beta law of 6/5 and 9/5.
    one = stats.betabinom(3, 1.2, 1.8).pmf(np.arange(4))
    correlated, independent = distribution_of_total(0.4, np.array([0.25, 0.0]), {3: 2})
    assert correlated == pytest.approx(np.convolve(one, one), abs=1e-12)
    assert independent == pytest.approx(stats.binom(6, 0.4).pmf(np.arange(7)), abs=1e-12)


def test_at_full_correlation_an_identity_succeeds_always_or_never() -> None:
    (distribution,) = distribution_of_total(0.3, np.array([1.0]), {5: 1, 2: 1})
    expected = {0: 0.7 * 0.7, 2: 0.7 * 0.3, 5: 0.3 * 0.7, 7: 0.3 * 0.3}
    assert distribution == pytest.approx([expected.get(total, 0.0) for total in range(8)], abs=1e-12)


def test_the_borders_of_an_interval_are_those_worked_out_by_hand() -> None:
    # One trial each of three identities, none succeeds. The two-sided tail of 0 at a share p in (1/3, 1/2) is
    # (1 - p)^3 + p^3, and from 1/2 on (1 - p)^3 alone; the share is refused where that falls to 6.3 %: p = 0.602.
    low, high = interval_of_share(np.array([0, 0, 0]), np.array([1, 1, 1]))
    assert low == 0.0
    assert high == pytest.approx(1 - 0.063 ** (1 / 3), abs=2e-4)


@pytest.mark.parametrize("counts", [(0, 0, 0), (5, 5, 5), (5, 0, 0), (2, 3, 2), (1, 0, 4, 5)])
def test_an_interval_has_width_holds_its_share_and_is_symmetric(counts: tuple[int, ...]) -> None:
    successes_, sizes = np.array(counts), np.full(len(counts), 5)
    low, high = interval_of_share(successes_, sizes)
    assert 0 <= low <= successes_.sum() / sizes.sum() <= high <= 1
    assert high - low > 0.3
    assert interval_of_share(sizes - successes_, sizes) == pytest.approx((1 - high, 1 - low), abs=3e-4)


def test_reconstructions_that_fail_together_widen_the_interval() -> None:
    together = interval_of_share(np.array([10, 0] * 10), np.full(20, 10))
    apart = interval_of_share(np.full(20, 5), np.full(20, 10))
    assert together[1] - together[0] > 2 * (apart[1] - apart[0])  # about sqrt(10) times


def test_identities_of_one_trial_have_no_correlation_to_speak_of() -> None:
    """Then the share is tested by the binomial law alone: left out are those whose mid-p is at most 4.6 %."""
    low, high = interval_of_share(np.array([1] * 30 + [0] * 20), np.ones(50, dtype=np.int64))
    for share, accepted in ((low - 3e-4, False), (low + 3e-4, True), (high - 3e-4, True), (high + 3e-4, False)):
        law, outcomes = stats.binom(50, share), np.arange(51)
        below, above = law.cdf(30), law.sf(29)
        others = law.sf(outcomes - 1) if below < above else law.cdf(outcomes)
        tail = min(below, above) + others[others <= min(below, above)].max(initial=0.0)
        assert (tail - law.pmf(30) / 2 > 0.046 or tail > 0.063) == accepted


CELLS = [
    (3, 5, 0.3, 0.02),
    (5, 5, 0.3, 0.98),
    (20, 5, 0.9, 0.1),
    (62, 5, 0.3, 0.9),
    (20, 50, 0.0, 0.5),
    (20, 1, 0.0, 0.02),
]


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_of_95_percent_intervals_93_to_98_hold_the_truth(cell: tuple[int, int, float, float]) -> None:
    """The first batch of the cell in `benchmarks.coverage`; its standard error is 0.7 points."""
    assert can_lie_within(*cell)
    assert 0.93 - 0.007 <= coverage(*cell, experiments=1000) <= 0.98 + 0.007


def test_the_interval_ends_where_shares_cease_to_be_accepted() -> None:
    """So that a coverage counted by acceptance is that of the intervals: of all 56 outcomes of 3 identities, 5 each."""
    outcomes = np.array(list(itertools.combinations_with_replacement(range(6), 3)))
    sizes = np.full(3, 5)
    for truth in (0.02, 0.5, 0.9):
        accepted = CorrelatedTrials(outcomes, sizes).accept(truth)
        held = [low <= truth <= high for low, high in (interval_of_share(row, sizes) for row in outcomes)]
        assert held == accepted.tolist()


def test_simulated_identities_are_as_correlated_as_they_should_be() -> None:
    drawn = successes(np.random.default_rng(0), 0.4, 0.3, 5, (4000, 2)) / 5
    # Variance of a share of 5: 0.4 * 0.6 * (1 + 4 * 0.3) / 5
    assert drawn.mean() == pytest.approx(0.4, abs=0.01)
    assert drawn.var() == pytest.approx(0.24 * 2.2 / 5, rel=0.05)


# Means


def test_a_mean_of_equal_groups_has_students_interval() -> None:
    # Group means 1, 2 and 6: mean 3, standard error sqrt(7) / sqrt(3); t of 2 degrees is 4.3027.
    estimate = over_groups(torch.tensor([0.0, 2, 2, 2, 5, 7]), torch.tensor([0, 0, 4, 4, 9, 9]), scale="real")
    half = 4.30265 * (7 / 3) ** 0.5
    assert (estimate.value, estimate.n, estimate.method) == (3.0, 3, "t over identities")
    assert (estimate.low, estimate.high) == pytest.approx((3 - half, 3 + half), rel=1e-5)


def test_groups_of_unequal_size_have_the_error_of_a_ratio() -> None:
    # Values 1, 2 | 6: mean 3; sums deviate by 3 - 6 and 6 - 3, so the variance is (9 + 9) / 9 * 2 / 1 = 4.
    low, high = interval_of_mean(np.array([1.0, 2, 6]), np.array([0, 0, 1]), scale="real")
    assert (low, high) == pytest.approx((3 - 2 * 12.7062, 3 + 2 * 12.7062), rel=1e-5)


def test_positive_numbers_have_an_interval_above_0_that_is_symmetric_in_the_logarithm() -> None:
    values = torch.tensor([1.0, 2.0, 6.0])
    estimate = over_groups(values, torch.arange(3), scale="positive")
    assert estimate.low == pytest.approx(3 * np.exp(-4.30265 * (7 / 3) ** 0.5 / 3), rel=1e-5)
    assert estimate.low * estimate.high == pytest.approx(9)


def test_fractions_have_wilsons_interval_with_the_effective_number_of_identities() -> None:
    # Mean 1/2, variance of the mean (1/4 + 0 + 1/4) / 9 * 3 / 2 = 1/12, so as many as 0.25 * 12 = 3 trials.
    low, high = interval_of_mean(np.array([0.0, 0.5, 1.0]), np.arange(3), scale="fraction")
    z2 = 4.30265**2
    half = (z2 * 0.25 / 3 + z2**2 / 36) ** 0.5 / (1 + z2 / 3)
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-5)


def test_fractions_that_are_all_0_are_as_good_as_trials_that_all_failed() -> None:
    low, high = interval_of_mean(np.zeros(5), np.arange(5), scale="fraction")
    assert (low, high) == pytest.approx((0.0, 7.70867 / (5 + 7.70867)), abs=1e-5)  # t of 4 degrees is 2.77645


def test_distances_without_spread_say_that_there_is_no_interval() -> None:
    estimate = over_groups(torch.full((4,), 2.5), torch.arange(4), scale="positive")
    assert (estimate.low, estimate.high, estimate.method) == (2.5, 2.5, "none: no spread to compute it from")


@pytest.mark.parametrize("scale", ["success", "positive"])
def test_one_identity_has_an_interval_for_reconstructions_of_that_one(scale: Scale) -> None:
    estimate = over_groups(torch.tensor([1.0, 0.0, 1.0]), torch.zeros(3).long(), scale=scale)
    assert (estimate.n, estimate.method) == (1, "of the one identity: over reconstructions")
    assert estimate.low < 2 / 3 < estimate.high


def test_groups_are_counted_and_not_rows() -> None:
    assert over_groups(torch.rand(30), torch.arange(30) % 3, scale="positive").n == 3


def test_an_estimate_of_nothing_is_refused() -> None:
    with pytest.raises(ShapeError, match="at least one value, got 0 and 0"):
        over_groups(torch.zeros(0), torch.zeros(0).long(), scale="real")


def test_a_share_of_images_has_an_interval_over_people_as_well() -> None:
    values, people = torch.tensor([1.0] * 9 + [0.0] * 3), torch.arange(12) // 3
    estimate = over_images(values, people)
    assert (estimate.low, estimate.high, estimate.n) == (wilson(9, 12).low, wilson(9, 12).high, 12)
    assert estimate.people is not None and estimate.people.n == 4
    assert (estimate.people.low, estimate.people.high) == interval_of_share(np.array([3, 3, 3, 0]), np.full(4, 3))
    assert estimate.people.high - estimate.people.low > 1.5 * (estimate.high - estimate.low)
