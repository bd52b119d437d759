"""Numbers over several priors and judges: means, spreads and intervals by hand."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.results.pooling import Draw, pooled_estimates, pooled_identities, spreads, unit_values

T_2 = 4.302653  # quantile 0.975 of Student's t with two degrees of freedom


def estimate(value: float, half: float) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": 2, "method": "beta-binomial"}


def draw(prior: int, judge: int, people: dict[str, float], *, half: float = 0.01, name: str = "fid") -> Draw:
    """A draw whose number is the mean of its people's."""
    records = [
        {"identity": person, "reconstructions": 5, "estimates": {name: estimate(value, 0.1)}}
        for person, value in people.items()
    ]
    return Draw(prior, judge, {name: estimate(sum(people.values()) / len(people), half)}, records)


def test_one_draw_keeps_its_numbers() -> None:
    only = draw(0, 0, {"ann": 0.4, "bob": 0.6})
    assert pooled_estimates([only]) == only.estimates


def test_values_are_laid_out_by_prior_judge_and_person() -> None:
    draws = [draw(prior, judge, {"ann": 10 * prior + judge, "bob": 5.0}) for prior in (3, 4) for judge in (0, 1)]
    values = unit_values(draws, "fid")
    assert values is not None
    assert (values.priors, values.judges, values.units) == ((3, 4), (0, 1), ("ann", "bob"))
    assert values.values[..., 0].tolist() == [[30, 31], [40, 41]]


def test_draws_of_other_people_have_no_common_values() -> None:
    assert unit_values([draw(0, 0, {"ann": 1.0}), draw(0, 1, {"bob": 1.0})], "fid") is None


def test_the_mean_over_judges_has_an_interval_that_holds_what_they_differ_in() -> None:
    """Judges at 1, 2 and 3 of two people who are alike: squared error 1 / 3, of judges alone, with 2 degrees."""
    draws = [draw(0, judge, {"ann": value, "bob": value}) for judge, value in enumerate((1.0, 2.0, 3.0))]
    pooled = pooled_estimates(draws)["fid"]
    half = T_2 * (1 / 3) ** 0.5
    assert (pooled["value"], pooled["low"], pooled["high"]) == pytest.approx((2.0, 2.0 - half, 2.0 + half), rel=1e-6)
    assert pooled["method"] == "beta-binomial; with 3 judges by Student's t"


def test_an_interval_is_never_narrower_than_that_of_one_draw() -> None:
    draws = [draw(0, judge, {"ann": 2.0, "bob": 2.0}, half=0.5) for judge in range(3)]
    pooled = pooled_estimates(draws)["fid"]
    assert (pooled["low"], pooled["high"]) == (1.5, 2.5)


def test_a_fraction_stays_between_0_and_1() -> None:
    draws = [draw(0, judge, {"ann": v, "bob": v}, name="attack_accuracy") for judge, v in enumerate((1.0, 0.9, 0.5))]
    pooled = pooled_estimates(draws)["attack_accuracy"]
    assert (pooled["value"], pooled["high"]) == (pytest.approx(0.8), 1.0)
    assert pooled["low"] > 0


def test_people_have_the_means_of_their_values_and_of_the_ends() -> None:
    draws = [draw(0, 0, {"ann": 0.2}), draw(1, 0, {"ann": 0.6})]
    [ann] = pooled_identities(draws)
    assert ann["identity"] == "ann"
    ends = [ann["estimates"]["fid"][part] for part in ("low", "value", "high")]
    assert ends == pytest.approx([0.3, 0.4, 0.5])


def test_the_spread_over_judges_leaves_out_that_over_priors() -> None:
    draws = [draw(prior, judge, {"ann": judge + 100.0 * prior}) for prior in (0, 1) for judge in (0, 2)]
    # 50 and 52 by judge, 1 and 101 by prior.
    assert spreads(draws, "fid") == pytest.approx({"judges_sd": 2**0.5, "priors_sd": 100 / 2**0.5})
    assert spreads(draws[:2], "fid") == pytest.approx({"judges_sd": 2**0.5})
    assert spreads(draws[:1], "fid") == {}


def test_the_interval_over_people_is_pooled_with_the_number() -> None:
    """The first judge's alone, 0.1 to 0.3, would not hold the mean of both, 0.5."""
    draws = [
        Draw(0, judge, {"fid": {**estimate(value, 0.01), "people": estimate(value, 0.1)}}, [])
        for judge, value in enumerate((0.2, 0.8))
    ]
    people = pooled_estimates(draws)["fid"]["people"]
    assert (people["low"], people["high"]) == pytest.approx((0.4, 0.6))
