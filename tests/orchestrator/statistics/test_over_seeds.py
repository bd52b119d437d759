"""Intervals over training seeds: against scipy, by hand, and in simulated trainings."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.coverage import coverage_of_total
from orchestrator.statistics.over_seeds import seed_interval, total_interval


def test_the_interval_over_seeds_is_scipys() -> None:
    values = np.array([0.9, 0.8, 0.85])
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert seed_interval(values) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_without_training_noise_the_total_is_that_over_people() -> None:
    people = np.array([0.2, 0.4, 0.9, 0.5])
    expected = stats.ttest_1samp(people, 0.0).confidence_interval(0.95)
    assert total_interval(np.stack([people, people])) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_where_all_people_are_alike_the_total_is_that_over_seeds() -> None:
    seeds = np.array([0.9, 0.8, 0.85])
    assert total_interval(np.repeat(seeds[:, None], 7, axis=1)) == pytest.approx(seed_interval(seeds), rel=1e-12)


@pytest.mark.parametrize(("seeds", "people", "training"), [(3, 20, 0.1), (5, 62, 0.0), (2, 10, 0.02)])
def test_the_total_interval_holds_the_mean_of_all_trainings_and_people(
    seeds: int, people: int, training: float
) -> None:
    rng = np.random.default_rng([seeds, people])
    held = 0
    for _ in range(400):
        values = rng.normal(0, training, (seeds, 1)) + rng.normal(0, 0.3, people) + rng.normal(0, 0.2, (seeds, people))
        low, high = total_interval(values)
        held += low <= 0 <= high
    assert 0.92 <= held / 400 <= 0.995  # one standard error is 1.1 points


def test_axes_of_one_add_nothing() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.2, (3, 7))
    assert total_interval(values[:, None, None]) == pytest.approx(total_interval(values))


def test_a_third_axis_adds_its_part() -> None:
    """Sums of effects of 2 trainings, 3 judges and 4 people without scatter: each axis adds its variance over count."""
    effects = [np.array([0.0, 0.2]), np.array([0.0, 0.3, 0.6]), np.array([0.1, 0.2, 0.3, 0.4])]
    values = effects[0][:, None, None] + effects[1][:, None] + effects[2]
    parts = [float(effect.var(ddof=1)) / len(effect) for effect in effects]
    squared = sum(parts)
    degrees = squared**2 / (parts[0] ** 2 / 1 + parts[1] ** 2 / 2 + parts[2] ** 2 / 3)
    half = stats.t.ppf(0.975, degrees) * squared**0.5
    assert total_interval(values) == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-9)


@pytest.mark.parametrize(
    ("counts", "people", "spread"),
    [((2, 1, 1), 62, 0.2), ((1, 1, 3), 20, 0.05), ((2, 2, 3), 62, 0.2), ((3, 3, 3), 5, 0.0)],
)
def test_the_total_interval_holds_the_mean_over_priors_and_judges_too(
    counts: tuple[int, int, int], people: int, spread: float
) -> None:
    """A few experiments of cells in `benchmarks.coverage`; one standard error is 1.1 points."""
    assert 0.92 <= coverage_of_total(counts, people, spread, experiments=400) <= 0.995
