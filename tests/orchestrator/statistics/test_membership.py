"""Membership of the frontier, where it is certain, where it is open, and where points are equal."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from orchestrator.statistics.membership import frontier_membership


def test_a_point_that_is_worse_in_both_for_everybody_never_belongs() -> None:
    utility = np.array([0.9, 0.8, 0.7])[:, None, None] + np.zeros((3, 2, 5))
    leakage = np.array([0.9, 0.2, 0.5])[:, None, None] + np.zeros((3, 2, 4))
    assert frontier_membership([utility, leakage], [1, -1]).tolist() == [1.0, 1.0, 0.0]


def test_equal_points_both_belong() -> None:
    values = np.random.default_rng(0).random((1, 2, 6)).repeat(2, axis=0)
    assert frontier_membership([values], [1]).tolist() == [1.0, 1.0]


def test_a_lead_is_as_sure_as_its_mean_is_in_resamples() -> None:
    """One objective: the first leads where the mean of 40 resampled differences, 0.1 +- 1, is above 0."""
    people = np.random.default_rng(0).standard_normal(40)
    lead = (people - people.mean()) / people.std() + 0.1
    shares = frontier_membership([np.stack([lead, np.zeros(40)])[:, None]], [1])
    assert shares[0] == pytest.approx(stats.norm.cdf(0.1 * 40**0.5), abs=0.04)
    assert shares.sum() == pytest.approx(1)


def test_seeds_are_drawn_once_for_all_objectives() -> None:
    """In either seed the second point is better in one objective and worse in the other, so it is never beaten."""
    first = np.zeros((2, 2, 3))
    utility, leakage = first.copy(), first.copy()
    utility[1], leakage[1] = np.array([[1.0], [-1.0]]), np.array([[1.0], [-1.0]])
    assert frontier_membership([utility, leakage], [1, -1]).tolist() == [1.0, 1.0]
