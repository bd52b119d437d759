"""Metrics, their intervals and the split they rest on, against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor

from tests.support.evidence import evidence
from workloads.core.errors import DataError, ShapeError
from workloads.core.randomness import generator
from workloads.datasets.base import SplitConfig, split
from workloads.metrics.attack_accuracy import AttackAccuracy, AttackAccuracyConfig, in_top_k
from workloads.metrics.base import HeldOutEvidence, ReconstructionEvidence, nearest_private
from workloads.metrics.intervals import bootstrap_over_groups, wilson
from workloads.metrics.natural_accuracy import NaturalAccuracy, NaturalAccuracyConfig


def draws(name: str | int = "draws") -> torch.Generator:
    return generator("test", name)


# Wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # (p + z2 / 2n -+ z sqrt(p (1 - p) / n + z2 / 4n2)) / (1 + z2 / n) with z2 = 3.8415, worked by hand:
        (8, 10, 0.4902, 0.9433),  # (0.8 + 0.19207 -+ 0.31347) / 1.38415
        (0, 10, 0.0, 0.2775),  # 0 and z2 / (n + z2) = 3.8415 / 13.8415
        (10, 10, 0.7225, 1.0),  # n / (n + z2) = 10 / 13.8415 and 1
        (1, 1, 0.2065, 1.0),  # 1 / 4.8415
    ],
)
def test_wilson_is_the_interval_worked_out_by_hand(successes: int, n: int, low: float, high: float) -> None:
    estimate = wilson(successes, n)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("n", [1, 7, 50, 1000])
def test_wilson_agrees_with_scipy(n: int) -> None:
    for successes in {0, 1, n // 3, n - 1, n}:
        expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
        estimate = wilson(successes, n)
        assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_nothing_is_refused() -> None:
    with pytest.raises(ShapeError, match="at least one observation, got 0"):
        wilson(0, 0)


# Bootstrap


def test_a_bootstrap_has_the_plain_mean_as_its_value() -> None:
    estimate = bootstrap_over_groups(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0, 0, 1]), generator=draws())
    assert estimate.value == pytest.approx(3.0)


def test_a_bootstrap_counts_groups_and_not_rows() -> None:
    estimate = bootstrap_over_groups(torch.rand(30), torch.arange(30) % 3, generator=draws())
    assert estimate.n == 3


def test_a_bootstrap_is_the_same_for_the_same_generator() -> None:
    values, groups = torch.rand(40, generator=draws()), torch.arange(40) % 8
    first, second = (bootstrap_over_groups(values, groups, generator=draws("again")) for _ in range(2))
    assert first == second


def test_a_bootstrap_of_equal_values_has_no_width() -> None:
    estimate = bootstrap_over_groups(torch.full((12,), 0.25), torch.arange(12) % 4, generator=draws())
    assert (estimate.low, estimate.value, estimate.high) == (0.25, 0.25, 0.25)


def test_two_groups_of_equal_size_resample_to_their_own_means() -> None:
    # both drawn alike with probability 1/4 each, so the 2.5 % and 97.5 % quantiles are the two group means
    values, groups = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0, 0, 1, 1])
    estimate = bootstrap_over_groups(values, groups, generator=draws())
    assert (estimate.low, estimate.high) == (0.0, 1.0)


def test_a_resampled_group_weighs_as_much_as_it_has_rows() -> None:
    # Of 20 groups one has 100 rows of 1, the others a row of 0 each. Drawn k times of 20, it gives 100 k / (100 k + 20
    # - k). By the binomial distribution k is 0 in 36 % of the resamples, above 2 in 7.5 % and above 3 in 1.6 %.
    values = torch.cat((torch.ones(100), torch.zeros(19)))
    groups = torch.cat((torch.zeros(100), torch.arange(1, 20))).long()
    estimate = bootstrap_over_groups(values, groups, generator=draws())
    assert (estimate.low, estimate.high) == pytest.approx((0.0, 300 / 317))


def test_one_group_gives_the_range_seen() -> None:
    estimate = bootstrap_over_groups(torch.tensor([1.0, 5.0, 3.0]), torch.zeros(3).long(), generator=draws())
    assert (estimate.low, estimate.high, estimate.method) == (1.0, 5.0, "range")


def test_rows_that_fail_together_widen_the_interval() -> None:
    values = torch.tensor([0.0, 1.0]).repeat_interleave(50)
    together = bootstrap_over_groups(values, torch.arange(10).repeat_interleave(10), generator=draws())
    apart = bootstrap_over_groups(values, torch.arange(100), generator=draws())
    assert together.high - together.low > 2 * (apart.high - apart.low)  # about sqrt(10) times


def test_a_bootstrap_contains_its_value() -> None:
    for case in range(50):
        values, groups = torch.rand(24, generator=draws(case)), torch.arange(24) % 6
        estimate = bootstrap_over_groups(values, groups, generator=draws(case))
        assert estimate.low <= estimate.value <= estimate.high


def test_a_bootstrap_of_nothing_is_refused() -> None:
    with pytest.raises(ShapeError, match="at least one value, got 0 and 0"):
        bootstrap_over_groups(torch.zeros(0), torch.zeros(0).long(), generator=draws())


# Accuracy


def test_natural_accuracy_counts_every_image() -> None:
    logits = torch.eye(3)[[0, 1, 2, 0]]
    metric = NaturalAccuracy(NaturalAccuracyConfig())
    estimate = metric.estimates(HeldOutEvidence(logits, torch.tensor([0, 1, 1, 0])))["natural_accuracy"]
    assert (estimate.value, estimate.n) == (0.75, 4)


def judged(logits: Tensor, identities: list[int]) -> ReconstructionEvidence:
    return evidence(identities, identities, logits=logits)


def test_attack_accuracy_is_one_where_the_largest_logit_is_the_identity() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])
    rows = AttackAccuracy(AttackAccuracyConfig()).rows(judged(logits, [0, 2]))
    assert rows["attack_accuracy"].tolist() == [1.0, 0.0]


def test_the_fifth_guess_counts_and_the_sixth_does_not() -> None:
    logits = torch.arange(11.0).flip(0).expand(2, 11)  # class 0 first, class 4 fifth
    rows = AttackAccuracy(AttackAccuracyConfig()).rows(judged(logits, [4, 5]))
    assert rows["attack_accuracy_top5"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("classes", "names"), [(10, ("attack_accuracy",)), (11, ("attack_accuracy", "attack_accuracy_top5"))]
)
def test_five_guesses_are_reported_from_eleven_classes(classes: int, names: tuple[str, ...]) -> None:
    metric = AttackAccuracy(AttackAccuracyConfig())
    rows = metric.rows(judged(torch.rand(2, classes), [0, 1]))
    assert tuple(rows) == metric.names(classes) == names


def test_logits_without_identities_are_refused() -> None:
    with pytest.raises(ShapeError, match="2 rows of logits do not fit 1 identities"):
        in_top_k(torch.rand(2, 3), torch.tensor([0]), k=1)


# Distance


PRIVATE = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1.0, 1.0]])


def test_distance_is_squared_and_to_the_nearest_of_the_identity() -> None:
    # from (0, 1): to (0, 0) it is 1, to (3, 4) it is 9 + 9; (1, 1) is as near but someone else
    distances, _ = nearest_private(torch.tensor([[0.0, 1.0]]), torch.tensor([0]), PRIVATE, torch.tensor([0, 0, 1]))
    assert distances.tolist() == [1.0]


def test_the_nearest_image_is_named_by_its_place_among_all() -> None:
    aimed = torch.tensor([1, 0])
    _, nearest = nearest_private(torch.tensor([[0.0, 0.0], [3.0, 3.0]]), aimed, PRIVATE, torch.tensor([0, 0, 1]))
    assert nearest.tolist() == [2, 1]


def test_an_identity_without_private_images_is_refused() -> None:
    with pytest.raises(ShapeError, match="identity 7 has no private image"):
        nearest_private(torch.zeros(1, 2), torch.tensor([7]), PRIVATE, torch.tensor([0, 0, 1]))


# Split


def random_labels(case: int) -> Tensor:
    """Between 2 and 6 identities with 2 to 12 images each, shuffled."""
    draw = draws(case)
    sizes = torch.randint(2, 13, (int(torch.randint(2, 7, (1,), generator=draw)),), generator=draw)
    labels = torch.arange(len(sizes)).repeat_interleave(sizes)
    return labels[torch.randperm(len(labels), generator=draw)]


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.99])
def test_every_identity_is_on_both_sides_of_a_split(fraction: float) -> None:
    for case in range(50):
        labels = random_labels(case)
        sides = split(labels, SplitConfig(test_fraction=fraction))
        assert all(torch.equal(labels[side].unique(), labels.unique()) for side in sides)


def test_every_image_is_on_one_side_of_a_split() -> None:
    for case in range(50):
        labels = random_labels(case)
        assert torch.cat(split(labels, SplitConfig())).sort().values.tolist() == list(range(len(labels)))


def test_a_split_holds_out_the_fraction_of_each_identity() -> None:
    labels = torch.arange(3).repeat_interleave(torch.tensor([10, 20, 30]))
    _, held_out = split(labels, SplitConfig(test_fraction=0.3))
    assert labels[held_out].bincount().tolist() == [3, 6, 9]


def test_a_split_is_the_same_for_the_same_seed() -> None:
    first, second = (split(random_labels(0), SplitConfig(seed=4)) for _ in range(2))
    assert all(torch.equal(side, same_side) for side, same_side in zip(first, second, strict=True))


def test_another_seed_splits_otherwise() -> None:
    labels = torch.arange(4).repeat_interleave(20)
    held_out = [split(labels, SplitConfig(seed=seed))[1] for seed in (0, 1)]
    assert not torch.equal(*held_out)


def test_an_identity_with_a_single_image_cannot_be_split() -> None:
    with pytest.raises(DataError, match="class 1 has one image: training and testing need at least two"):
        split(torch.tensor([0, 0, 1]), SplitConfig())
