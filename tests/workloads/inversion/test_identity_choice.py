"""Who is attacked: the first, those named, or a draw that depends on names and seed alone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from orchestrator.errors import SpecError
from orchestrator.executors.inline import InlineExecutor
from tests.support.toy import TOY, toy_sweep
from workloads.core.errors import ConfigError
from workloads.inversion.identity_choice import IdentityDraw, chosen, in_words

NAMES = [f"person {number:02}" for number in range(62)]


def test_a_number_takes_the_first_and_nothing_takes_all() -> None:
    assert chosen(3, NAMES) == [0, 1, 2]
    assert chosen(None, NAMES) == list(range(62))


def test_names_are_attacked_in_the_order_of_the_classes() -> None:
    assert chosen(("person 09", "person 02"), NAMES) == [2, 9]


def test_a_draw_is_the_same_whatever_the_order_of_the_names() -> None:
    draw = IdentityDraw(count=10)
    forwards = {NAMES[index] for index in chosen(draw, NAMES)}
    backwards = [*reversed(NAMES)]
    assert len(forwards) == 10
    assert {backwards[index] for index in chosen(draw, backwards)} == forwards


def test_a_smaller_draw_is_part_of_a_larger_one_and_another_seed_draws_others() -> None:
    ten, twenty = (set(chosen(IdentityDraw(count=count), NAMES)) for count in (10, 20))
    assert ten < twenty
    assert set(chosen(IdentityDraw(count=10, seed=1), NAMES)) != ten


def test_everybody_is_drawn_equally_often() -> None:
    """Each person is in 1,000 of 2,000 draws of 10 of 20 people, with a standard deviation of 22."""
    people = NAMES[:20]
    times = Counter(index for seed in range(2000) for index in chosen(IdentityDraw(count=10, seed=seed), people))
    assert all(abs(times[index] - 1000) < 5 * 22.4 for index in range(20))


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (None, "all 62"),
        (20, "the first 20 of 62: intervals stand for people like these"),
        (IdentityDraw(count=20), "20 of 62 drawn at random: intervals stand for all 62"),
        (("person 01",), "1 of 62 by name: intervals stand for people like these"),
    ],
)
def test_it_is_said_for_whom_intervals_stand(choice: int | IdentityDraw | tuple[str, ...] | None, said: str) -> None:
    assert in_words(choice, 62) == said


def test_more_than_there_are_and_names_of_nobody_are_refused() -> None:
    with pytest.raises(ConfigError, match="63 are to be attacked, but there are 62"):
        chosen(IdentityDraw(count=63), NAMES)
    with pytest.raises(ConfigError, match="'nobody' is none of them: there are person 00, person 01, person 02 and 59"):
        chosen(("nobody",), NAMES)


def toy_attack(identities: object) -> dict[str, object]:
    data = {**TOY["data"]["private"], "identities": ["0", "1", "2", "3"]}
    public = {**TOY["data"]["public"], "identities": ["4", "5"]}
    return {
        "data": {"private": data, "public": public},
        "attacks": [{**TOY["attacks"][0], "identities": identities}],
    }


@pytest.mark.parametrize(
    ("identities", "said"),
    [
        (["7"], r"attacks\.0: identities: '7' is none of them: there are 0, 1, 2 and 1 more"),
        (["1", "1"], r"attacks\.0\.identities: '1' is there twice"),
        (-3, r"attacks\.0\.identities: must be above 0, got -3"),
        (
            {"cout": 3, "count": 2},
            r"attacks\.0\.identities\.cout: unknown field\. Did you mean 'count'\? Fields: count, draw",
        ),
        ({"count": 9}, r"attacks\.0: identities: gmi attacks 9 classes, but the target model has 4"),
    ],
)
def test_a_spec_that_attacks_nobody_there_is_refused_in_one_line(tmp_path: Path, identities: object, said: str) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        toy_sweep(tmp_path, tmp_path / "runs", **toy_attack(identities))
    assert str(caught.value).count("\n") == 0


def test_all_are_everybody(tmp_path: Path) -> None:
    spec = toy_sweep(tmp_path, tmp_path / "runs", **toy_attack("all")).resolved.spec
    assert spec.attacks[0].identities is None


def test_every_point_attacks_the_same_people_and_the_draw_is_on_record(tmp_path: Path) -> None:
    sweep = toy_sweep(tmp_path, tmp_path / "runs", **toy_attack({"count": 2, "draw": "random"}))
    sweep.run(InlineExecutor(), spec_file=None)
    attacked = [[record["identity"] for record in trial.attacks["gmi"].identities] for trial in sweep.result().trials]
    expected = [str(index) for index in chosen(IdentityDraw(count=2), ["0", "1", "2", "3"])]
    assert attacked == [expected] * 3
    protocol = sweep.result().trials[0].attacks["gmi"].protocol
    assert protocol["people"] == "2 of 4 drawn at random: intervals stand for all 4"
    assert json.loads(sweep.paths.resolved.read_text())["spec"]["attacks"][0]["identities"]["count"] == 2
