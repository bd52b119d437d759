"""Metrics, their intervals and the split they rest on, against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.support.evidence import evidence
from workloads.core.errors import DataError, ShapeError
from workloads.core.randomness import generator
from workloads.datasets.base import SplitConfig, split
from workloads.metrics.attack_accuracy import AttackAccuracy, AttackAccuracyConfig, in_top_k
from workloads.metrics.base import HeldOutEvidence, ReconstructionEvidence, nearest_private
from workloads.metrics.natural_accuracy import NaturalAccuracy, NaturalAccuracyConfig


def draws(name: str | int = "draws") -> torch.Generator:
    return generator("test", name)


# Accuracy


def test_natural_accuracy_counts_every_image() -> None:
    logits = torch.eye(3)[[0, 1, 2, 0]]
    metric = NaturalAccuracy(NaturalAccuracyConfig())
    estimate = metric.estimates(HeldOutEvidence(logits, torch.tensor([0, 1, 1, 0]), torch.zeros(4, 1, 1, 1), None))[
        "natural_accuracy"
    ]
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
