"""Traits read off reconstructions, where features say all of them, nothing, or the wrong ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from tests.support.evidence import evidence
from workloads.core.errors import ShapeError
from workloads.metrics.trait_recovery import TraitRecovery, TraitRecoveryConfig

PEOPLE, EACH = 12, 10
OWNERS = torch.arange(PEOPLE).repeat_interleave(EACH)
HAIR = [identity % 3 for identity in range(PEOPLE)]
NOSE = [0.3 + 0.05 * identity for identity in range(PEOPLE)]
TRAITS: dict[str, list[Any]] = {"hair": HAIR, "nose": NOSE}
ALMOST_NO_RIDGE = TraitRecoveryConfig(ridge=1e-9)


def draw(seed: int, rows: int, features: int) -> Tensor:
    return torch.randn(rows, features, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def telling(identities: Tensor) -> Tensor:
    """Features from which every trait follows in a linear way: the kinds one by one and the measure, mixed up."""
    traits = torch.cat((torch.eye(3)[torch.tensor(HAIR)], torch.tensor(NOSE)[:, None]), 1).double()
    return traits[identities] @ draw(1, 4, 4)


def recovered(
    reconstructed: Tensor,
    aimed: Tensor,
    private: Tensor,
    *,
    config: TraitRecoveryConfig = ALMOST_NO_RIDGE,
    traits: dict[str, list[Any]] = TRAITS,
) -> dict[str, Tensor]:
    example = evidence(aimed.tolist(), OWNERS.tolist(), features=reconstructed, private_features=private, traits=traits)
    return TraitRecovery(config).rows(example)


def test_traits_that_are_a_linear_function_of_features_are_recovered() -> None:
    aimed = torch.arange(PEOPLE)
    rows = recovered(telling(aimed), aimed, telling(OWNERS))
    assert rows["trait_kinds"].tolist() == [1.0] * PEOPLE
    assert rows["trait_measures"].tolist() == pytest.approx([1.0] * PEOPLE, abs=1e-6)


def test_reconstructions_of_somebody_else_show_that_persons_traits() -> None:
    aimed = torch.arange(PEOPLE)
    somebody = (aimed + 1) % PEOPLE  # with another hair, and a nose 0.05 longer but for the last one
    rows = recovered(telling(somebody), aimed, telling(OWNERS))
    assert rows["trait_kinds"].tolist() == [0.0] * PEOPLE
    variance = torch.tensor(NOSE, dtype=torch.float64).var(correction=0).item()
    assert rows["trait_measures"][:-1].tolist() == pytest.approx([1 - 0.05**2 / variance] * (PEOPLE - 1), rel=1e-4)


def test_features_that_say_nothing_give_what_guessing_gives() -> None:
    aimed = torch.arange(PEOPLE).repeat(40)
    rows = recovered(draw(2, len(aimed), 4), aimed, draw(3, len(OWNERS), 4))
    assert rows["trait_kinds"].mean().item() == pytest.approx(1 / 3, abs=0.1)
    assert rows["trait_measures"].mean().item() == pytest.approx(0, abs=0.15)


def test_the_average_person_measures_nothing() -> None:
    aimed, private = torch.arange(PEOPLE), telling(OWNERS)
    rows = recovered(private.mean(0).expand(PEOPLE, -1), aimed, private)
    # 1 - (mean - own)^2 / variance, whose mean over people is 0.
    assert rows["trait_measures"].mean().item() == pytest.approx(0, abs=1e-9)


def test_the_probe_is_scikit_learns_ridge_regression() -> None:
    aimed, private, reconstructed = torch.arange(PEOPLE), draw(4, len(OWNERS), 6), draw(5, PEOPLE, 6)
    nose = torch.tensor(NOSE, dtype=torch.float64)
    scaler = StandardScaler().fit(private.numpy())
    # Its penalty stands beside a sum over images, ours beside a mean.
    probe = Ridge(alpha=0.3 * len(OWNERS)).fit(scaler.transform(private.numpy()), nose[OWNERS].numpy())
    read = torch.from_numpy(probe.predict(scaler.transform(reconstructed.numpy())))
    rows = recovered(reconstructed, aimed, private, config=TraitRecoveryConfig(ridge=0.3))
    torch.testing.assert_close(rows["trait_measures"], 1 - (read - nose).square() / nose.var(correction=0))


def test_traits_that_all_share_are_left_out() -> None:
    aimed = torch.arange(PEOPLE)
    same: dict[str, list[Any]] = {"glasses": [1] * PEOPLE, "jaw": [2.5] * PEOPLE}
    first = recovered(draw(5, PEOPLE, 6), aimed, draw(4, len(OWNERS), 6))
    second = recovered(draw(5, PEOPLE, 6), aimed, draw(4, len(OWNERS), 6), traits={**same, **TRAITS})
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_people_who_are_all_alike_are_refused() -> None:
    with pytest.raises(ShapeError, match="no traits that are measures differ among the identities: leave it out"):
        recovered(telling(OWNERS), OWNERS, telling(OWNERS), traits={"hair": HAIR, "nose": [0.5] * PEOPLE})
