"""Search: what is asked, what samplers hear, and that a search continued from the ledger goes on as it was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.planning.graph import Trial
from orchestrator.planning.plan import plan
from orchestrator.planning.search import Search
from orchestrator.search.samplers.base import Sampler
from orchestrator.search.space import Params
from orchestrator.spec.model import Spec
from orchestrator.store.ledger import TrialState
from tests.support.toy import toy_sweep

AREA = "defenses.0.max_area"


def spec_with(tmp_path: Path, **search: Any) -> Spec:
    return toy_sweep(tmp_path, tmp_path / "runs", search=search).resolved.spec


def drain(search: Search) -> list[Trial]:
    return list(iter(search.next, None))


def state_of(trial: Trial, **outcome: Any) -> TrialState:
    return TrialState(trial.id, trial.point, trial.params, trial.seed, trial.baseline, **outcome)


def test_a_grid_is_the_baseline_and_every_combination_with_every_seed(tmp_path: Path) -> None:
    space = {
        AREA: {"kind": "choice", "values": [0.3, 0.6]},
        "defenses.0.max_aspect": {"kind": "choice", "values": [1.0, 2.0]},
    }
    trials = drain(Search(spec_with(tmp_path, space=space, seeds=[0, 1])))
    assert len(trials) == (1 + 2 * 2) * 2
    assert [trial.baseline for trial in trials[:3]] == [True, True, False]


def test_trial_identities_do_not_depend_on_where_they_run(tmp_path: Path) -> None:
    spec = spec_with(tmp_path, space={}, seeds=[0])
    elsewhere = spec.model_copy(update={"description": "other words"})
    assert drain(Search(spec)) == drain(Search(elsewhere))


def test_log_uniform_draws_fall_evenly_in_logarithm(tmp_path: Path) -> None:
    space = {"target.training.lr": {"kind": "log_uniform", "low": 1e-4, "high": 1e-2}}
    sampler = {"kind": "random", "points": 200}
    trials = drain(Search(spec_with(tmp_path, space=space, sampler=sampler, baseline=False)))
    below = sum(trial.params["target.training.lr"] < 1e-3 for trial in trials)
    assert abs(below - 100) < 4 * math.sqrt(200 * 0.25)  # four standard deviations of a fair coin


@pytest.mark.parametrize("sampler", [{"kind": "random", "points": 3}, {"kind": "tpe", "points": 3}])
def test_a_search_has_its_points_and_no_more(tmp_path: Path, sampler: dict[str, Any]) -> None:
    space = {AREA: {"kind": "uniform", "low": 0.2, "high": 0.9}}
    search = Search(spec_with(tmp_path, space=space, sampler=sampler, seeds=[0, 1]))
    assert search.size == len(drain(search)) == (1 + 3) * 2


def test_integers_are_drawn_from_both_ends_of_their_range_on(tmp_path: Path) -> None:
    space = {
        "target.training.epochs": {"kind": "integer", "low": 1, "high": 3},
        "target.training.batch_size": {"kind": "integer", "low": 4, "high": 4},
    }
    trials = drain(Search(spec_with(tmp_path, space=space, sampler={"kind": "random", "points": 40}, baseline=False)))
    assert {trial.params["target.training.epochs"] for trial in trials} == {1, 2, 3}
    assert {trial.params["target.training.batch_size"] for trial in trials} == {4}


def test_a_trial_that_was_given_back_comes_next(tmp_path: Path) -> None:
    search = Search(spec_with(tmp_path, space={}, seeds=[0, 1]))
    first = search.next()
    assert first is not None
    search.give_back(first)
    assert search.next() == first


@pytest.mark.parametrize("kind", ["random", "tpe"])
def test_a_continued_search_asks_the_points_it_asked_before(tmp_path: Path, kind: str) -> None:
    space = {AREA: {"kind": "uniform", "low": 0.2, "high": 0.9}}
    spec = spec_with(
        tmp_path,
        space=space,
        sampler={"kind": kind, "points": 6, "startup_points": 3} if kind == "tpe" else {"kind": kind, "points": 6},
    )
    first = Search(spec)
    trials = [first.next() for _ in range(4)]
    history = [state_of(trial) for trial in trials if trial]
    assert drain(Search(spec, history))[:4] == trials


def test_tpe_goes_on_knowing_every_finished_trial(tmp_path: Path) -> None:
    space = {AREA: {"kind": "uniform", "low": 0.2, "high": 0.9}}
    sampler = {"kind": "tpe", "points": 8, "startup_points": 2}
    spec = spec_with(tmp_path, space=space, sampler=sampler, baseline=False)

    def metrics(trial: Trial) -> dict[str, float]:
        return {"natural_accuracy": 1 - trial.params[AREA] ** 2, "gmi.attack_accuracy": trial.params[AREA]}

    undisturbed, points = Search(spec), []
    while (trial := undisturbed.next()) is not None:
        points.append(trial)
        undisturbed.finish(trial.id, metrics(trial))
    again = Search(spec, [state_of(trial) for trial in points[:5]])
    for _ in range(5):
        trial = again.next()
        assert trial is not None
        again.finish(trial.id, metrics(trial))
    assert drain(again)[0] == points[5]


def test_tpe_comes_near_to_what_is_best_by_both_objectives(tmp_path: Path) -> None:
    space = {AREA: {"kind": "uniform", "low": 0.1, "high": 0.9}}
    sampler = {"kind": "tpe", "points": 30, "startup_points": 10}
    search, distances = Search(spec_with(tmp_path, space=space, sampler=sampler, baseline=False)), []
    while (trial := search.next()) is not None:
        distances.append(abs(trial.params[AREA] - 0.5))
        search.finish(trial.id, {"natural_accuracy": 1 - distances[-1], "gmi.attack_accuracy": distances[-1]})
    assert sum(distances[-10:]) < sum(distances[:10]) / 2


def test_a_point_that_coincides_with_an_earlier_one_hides_nothing_that_came_after_it(tmp_path: Path) -> None:
    """Six values and twelve points: some coincide, and the ledger has no trial of those."""
    space = {AREA: {"kind": "choice", "values": [0.3, 0.4, 0.5, 0.6, 0.7, 0.8]}}
    spec = spec_with(tmp_path, space=space, sampler={"kind": "tpe", "points": 12, "startup_points": 12})
    trials = drain(Search(spec))
    assert trials[-1].point > len(trials) - 1, "no point coincides with one before another: take another seed"
    assert Search(spec, [state_of(trial, status="done") for trial in trials]).trials == tuple(trials)


def test_a_point_that_coincides_is_told_what_its_twin_yields(tmp_path: Path) -> None:
    told: dict[int, Any] = {}

    class Twice(Sampler):
        def ask(self, index: int) -> Params | None:
            return {AREA: 0.3} if index < 3 else None

        def tell(self, index: int, values: Sequence[float] | None) -> None:
            told[index] = values

    search = Search(spec_with(tmp_path, space={AREA: {"kind": "choice", "values": [0.3]}}, baseline=False))
    search._sampler = Twice()
    (only,) = drain(search)
    search.finish(only.id, {"natural_accuracy": 0.9, "gmi.attack_accuracy": 0.2})
    assert told == {index: [0.9, 0.2] for index in range(3)}


def test_a_point_whose_values_do_not_go_together_is_told_as_failed_and_passed_over(tmp_path: Path) -> None:
    told: dict[int, Any] = {}

    class Clash(Sampler):
        def ask(self, index: int) -> Params | None:
            return {"defenses.0.min_area": (0.9, 0.2)[index], AREA: 0.3} if index < 2 else None

        def tell(self, index: int, values: Sequence[float] | None) -> None:
            told[index] = values

    search = Search(spec_with(tmp_path, space={AREA: {"kind": "choice", "values": [0.3]}}, baseline=False))
    search._sampler = Clash()
    assert [trial.point for trial in drain(search)] == [2]
    assert told == {0: None}


def test_a_failed_or_missing_objective_is_told_as_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_with(tmp_path, space={AREA: {"kind": "choice", "values": [0.3]}}, baseline=False)
    told: list[object] = []
    search = Search(spec)
    monkeypatch.setattr(search._sampler, "tell", lambda index, values: told.append(values))
    trial = search.next()
    assert trial is not None
    search.finish(trial.id, {"natural_accuracy": 0.9})
    assert told == [None]


AREAS = {AREA: {"kind": "choice", "values": [0.3, 0.6, 0.9]}}


def numbers_of(trial: Trial) -> dict[str, float]:
    """Areas .3 and .6 are on the frontier with the baseline, .9 is beaten; both gains added are .05, .5 and .3."""
    natural, attack = {None: (0.9, 0.9), 0.3: (0.85, 0.8), 0.6: (0.8, 0.3), 0.9: (0.7, 0.4)}[trial.params.get(AREA)]
    return {"natural_accuracy": natural, "gmi.attack_accuracy": attack}


def finish_all(search: Search) -> list[Trial]:
    trials = []
    while (trial := search.next()) is not None:
        trials.append(trial)
        search.finish(trial.id, numbers_of(trial))
    return trials


@pytest.mark.parametrize(
    ("points", "areas"), [("frontier", [None, 0.3, 0.6]), ("best", [None, 0.6]), (2, [None, 0.6, 0.9])]
)
def test_points_are_confirmed_with_fresh_seeds_once_the_search_has_ended(
    tmp_path: Path, points: str | int, areas: list[float | None]
) -> None:
    search = Search(spec_with(tmp_path, space=AREAS, seeds=[0, 2], confirm={"points": points, "seeds": 2}))
    most = search.size
    trials = finish_all(search)
    confirming = [trial for trial in trials if trial.stage == "confirm"]
    assert [trial.stage for trial in trials[:8]] == ["search"] * 8
    assert [(trial.params.get(AREA), trial.seed) for trial in confirming] == [(a, s) for a in areas for s in (1, 3)]
    assert search.size == len(trials) <= most
    assert len({trial.id for trial in trials}) == len(trials)


def test_a_search_waits_for_its_trials_before_it_confirms_any(tmp_path: Path) -> None:
    search = Search(spec_with(tmp_path, space=AREAS, confirm={}))
    *others, last = drain(search)
    for trial in others:
        search.finish(trial.id, numbers_of(trial))
    assert search.next() is None and search.waits
    search.finish(last.id, numbers_of(last))
    first = search.next()
    assert first is not None and first.stage == "confirm" and not search.waits


def test_where_no_defense_is_on_the_frontier_the_best_one_is_confirmed(tmp_path: Path) -> None:
    search = Search(spec_with(tmp_path, space=AREAS, confirm={"seeds": 1}))
    for trial in drain(search):
        worse = trial.params.get(AREA, 0.0)
        search.finish(trial.id, {"natural_accuracy": 0.9 - worse / 2, "gmi.attack_accuracy": 0.5 + worse / 2})
    assert [trial.params.get(AREA) for trial in drain(search)] == [None, 0.3]


def test_a_failed_point_is_not_confirmed(tmp_path: Path) -> None:
    search = Search(spec_with(tmp_path, space=AREAS, confirm={"points": "best", "seeds": 1}))
    for trial in drain(search):
        search.finish(trial.id, None if trial.params.get(AREA) == 0.6 else numbers_of(trial))
    assert [trial.params.get(AREA) for trial in drain(search)] == [None, 0.9]  # sums of gains: .05 and .3


@pytest.mark.parametrize("sampler", [{"kind": "grid"}, {"kind": "tpe", "points": 3, "startup_points": 3}])
def test_a_killed_confirmation_goes_on_as_it_was(tmp_path: Path, sampler: dict[str, Any]) -> None:
    spec = spec_with(tmp_path, space=AREAS, sampler=sampler, confirm={"seeds": 2})
    trials = finish_all(Search(spec))
    ended = [state_of(trial, status="done", metrics=numbers_of(trial)) for trial in trials]
    searched = sum(trial.stage == "search" for trial in trials)
    assert len(trials) > searched
    for count in (searched, searched + 1, len(trials)):
        read = Search(spec, ended[:count])
        read.foresee()
        assert read.trials == tuple(trials), "what a report would show of a run that was killed here"
        assert finish_all(Search(spec, ended[:count])) == trials, "what the run does when it is continued"


def test_confirming_trials_have_other_judges_and_priors(tmp_path: Path) -> None:
    sweep = toy_sweep(tmp_path, tmp_path / "runs", search={"space": AREAS, "confirm": {"points": "best", "seeds": 1}})
    search = sweep.search()
    trials = {trial.stage: trial for trial in finish_all(search)}
    keys = {stage: plan(sweep.resolved, trial, search.spec_of(trial)).keys for stage, trial in trials.items()}
    assert [[judge.seed for judge in keys[stage].judges] for stage in ("search", "confirm")] == [[0], [1]]
    priors = [[draw.seed for draw in keys[stage].attacks["gmi"].draws] for stage in ("search", "confirm")]
    assert priors == [[0], [1]]
    assert keys["search"].judges[0].model != keys["confirm"].judges[0].model
