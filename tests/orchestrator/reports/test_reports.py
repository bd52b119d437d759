"""Tables, figures and the page on a hand-made sweep: two seeds at the baseline, two erased points, one failure."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.patches import Polygon
from matplotlib.text import Text
from PIL import Image
from rich.console import Console
from rich.table import Table

from orchestrator.planning.graph import Stage, Trial, TrialPlan
from orchestrator.planning.plan import plan as plan_trial
from orchestrator.reports.feature_space import feature_space_figure, feature_spaces
from orchestrator.reports.figures import frontier_figure, heat_maps
from orchestrator.reports.findings import findings
from orchestrator.reports.html import write_report
from orchestrator.reports.tables import optimism_rows, point_rows, points_table, trade_offs, trials_table
from orchestrator.results.confirmation import optimism
from orchestrator.results.pooling import Draw
from orchestrator.results.sweep_result import AttackResult, SweepResult, TrialResult
from orchestrator.results.trade_off import TradeOff, trade_off
from orchestrator.spec.apply import applied, undefended
from orchestrator.spec.loading import load_spec
from orchestrator.spec.model import ResolvedSpec
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.paths import RunPaths
from tests.support.paths import ERASING_OF_DIGITS

AREA, ASPECT = "defenses.0.max_area", "defenses.0.max_aspect"
SMALL, LARGE = {AREA: 0.2, ASPECT: 1.0}, {AREA: 0.8, ASPECT: 3.0}


def estimate(value: float, half: float, *, n: int, method: str) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": n, "method": method}


def stored(store: ArtifactStore, key: str, files: dict[str, bytes]) -> str:
    folder = store.new_attempt(key)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    store.commit(key, "made_by_hand", folder, {})
    return key


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (12, 8), 128).save(buffer, "PNG")
    return buffer.getvalue()


def leave_artifacts(store: ArtifactStore, plan: TrialPlan, judged: dict[str, bytes]) -> None:
    """What the jobs of a trial would leave for a report to show."""
    facts = {"mean_erased_area": 0.314, "unerased_share": 0.021}
    evidence = {f"{index}.{kind}": facts for index, kind in enumerate(plan.defenses)}
    maps = {f"{index}.{kind}.erased_map.png": png() for index, kind in enumerate(plan.defenses)}
    stored(store, plan.keys.target, {"defenses.json": json.dumps(evidence).encode(), **maps})
    for attack in plan.keys.attacks.values():
        for key in attack.first.judged:
            stored(store, key, {"pairs.png": png(), **judged})
        for member in attack.first.members.values():
            if member.prior is not None:
                stored(store, member.prior, {"samples.png": png()})


def attacked(accuracy: float, half: float) -> AttackResult:
    numbers = {
        "attack_accuracy": estimate(accuracy, half, n=5, method="bootstrap over identities"),
        "knn_distance": estimate(57.25, 8.0, n=5, method="bootstrap over identities"),
    }
    protocol = {
        "access": "white box",
        "steps": 200,
        "restarts": 10,
        "kept": 10,
        "selection": "all",
        "identities": 5,
        "queries": 10050,
    }
    people = [
        {"identity": str(person), "estimates": {"attack_accuracy": numbers["attack_accuracy"]}} for person in range(20)
    ]
    return AttackResult("gmi", (Draw(0, 0, numbers, people),), protocol, 12.5)


def digits(**overrides: str) -> ResolvedSpec:
    spec, _ = load_spec(ERASING_OF_DIGITS, overrides=[f"{path}={text}" for path, text in overrides.items()])
    return ResolvedSpec(spec=spec, private_digest="a" * 64, public_digest="b" * 64)


class World:
    """Makes trials with artifacts in a store."""

    def __init__(self, folder: Path) -> None:
        self.store = ArtifactStore(folder / "store")
        self.paths = RunPaths(folder / "run")
        self.judged: dict[str, bytes] = {}
        """Files that the evaluation of an attack leaves beside the usual ones."""

    def trial(
        self,
        point: int,
        params: dict[str, Any],
        seed: int,
        natural: float,
        attack: float,
        *,
        half: float = 0.05,
        stage: Stage = "search",
    ) -> TrialResult:
        trial = Trial(f"trial{point}{seed}", point, params, seed, baseline=point == 0, stage=stage)
        resolved = digits()
        spec = applied(resolved.spec, params) if point else undefended(resolved.spec)
        plan = plan_trial(resolved, trial, spec)
        leave_artifacts(self.store, plan, self.judged)
        utility = {"natural_accuracy": estimate(natural, 0.01, n=270, method="wilson")}
        images = {"natural_accuracy": [int(image < round(1000 * natural)) for image in range(1000)]}
        return TrialResult(plan, "done", "", utility, {"gmi": attacked(attack, half)}, images=images)

    def failed(self, point: int, params: dict[str, Any], error: str) -> TrialResult:
        trial = Trial(f"trial{point}0", point, params, 0, baseline=False)
        resolved = digits()
        return TrialResult(plan_trial(resolved, trial, applied(resolved.spec, params)), "failed", error, {}, {})

    def result(self, *trials: TrialResult, **overrides: str) -> SweepResult:
        resolved = digits(**{path.replace("__", "."): text for path, text in overrides.items()})
        judge = {"natural_accuracy": estimate(0.985, 0.01, n=270, method="wilson")}
        return SweepResult(resolved, trials, {0: judge})

    def usual(self) -> SweepResult:
        return self.result(
            self.trial(0, {}, 0, 0.98, 0.9),
            self.trial(0, {}, 1, 0.96, 0.8),
            self.trial(1, SMALL, 0, 0.95, 0.6),
            self.trial(1, SMALL, 1, 0.93, 0.5),
            self.trial(2, LARGE, 0, 0.7, 0.65),
            self.failed(3, {AREA: 0.5, ASPECT: 1.0}, "loss became NaN at <step> 412"),
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def page(world: World) -> str:
    write_report(world.usual(), world.store, world.paths)
    return world.paths.report.read_text(encoding="utf-8")


def printed(table: Table) -> str:
    console = Console(width=220, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_what_should_be_known_of_the_data_stands_in_the_report(world: World) -> None:
    usual = world.usual()
    notes = ("data.private: left out: 1 hidden file or folder.",)
    noted = dataclasses.replace(usual, resolved=usual.resolved.model_copy(update={"notes": notes}))
    write_report(noted, world.store, world.paths)
    assert f"<li>{notes[0]}</li>" in world.paths.report.read_text(encoding="utf-8")


def ratio(result: SweepResult) -> TradeOff:
    """The trade-off of the second point, as if its loss of utility were sure."""
    baseline, defended, *_ = result.points()
    return trade_off(defended, baseline, utility="natural_accuracy", attack="gmi.attack_accuracy", surely_lost=True)


def test_a_trade_off_is_what_the_attack_lost_over_what_utility_lost(world: World) -> None:
    # Seeds 0 and 1: attack 0.9 - 0.6 and 0.8 - 0.5, natural 0.98 - 0.95 and 0.96 - 0.93; the ratio is 10 for both.
    assert str(ratio(world.usual())) == "10.0 ± 0.0 (30.0 / 3.0 points)"


def test_a_ratio_whose_denominator_is_within_its_noise_is_not_printed(world: World) -> None:
    lines = printed(points_table(world.usual())).splitlines()
    # Two seeds that differ by 2 points do not show that 3 are lost.
    assert any("no sure utility loss (30.0 / 3.0 points)" in line for line in lines)


def test_a_ratio_whose_denominator_is_sure_is_printed(world: World) -> None:
    result = world.result(world.trial(0, {}, 0, 0.9, 0.8), world.trial(1, SMALL, 0, 0.8, 0.6))
    assert any("2.0 (20.0 / 10.0 points)" in line for line in printed(points_table(result)).splitlines())


def test_a_trade_off_of_seeds_that_disagree_has_their_error(world: World) -> None:
    result = world.result(
        world.trial(0, {}, 0, 0.98, 0.9),
        world.trial(0, {}, 1, 0.98, 0.9),
        world.trial(1, SMALL, 0, 0.94, 0.7),
        world.trial(1, SMALL, 1, 0.92, 0.5),
    )
    lost = ratio(result)
    # Lost: attack 0.2 and 0.4, utility 0.04 and 0.06. Ratio 0.3 / 0.05 = 6; residuals -0.04 and 0.04, deviation
    # 0.04 sqrt(2), over sqrt(2) and over 0.05.
    assert lost.ratio == pytest.approx(6)
    assert lost.error == pytest.approx(0.8)


def test_a_point_that_lost_no_utility_has_no_ratio(world: World) -> None:
    result = world.result(world.trial(0, {}, 0, 0.9, 0.8), world.trial(1, SMALL, 0, 0.95, 0.7))
    (lost,) = trade_offs(result).values()
    assert str(lost) == "no sure utility loss (10.0 / -5.0 points)"


def test_a_single_seed_has_a_ratio_without_error(world: World) -> None:
    result = world.result(world.trial(0, {}, 0, 0.9, 0.8), world.trial(1, SMALL, 0, 0.8, 0.6))
    (lost,) = trade_offs(result).values()
    assert lost.ratio == pytest.approx(2)
    assert lost.error is None


def test_trials_table_shows_intervals_in_per_cent_and_stars(world: World) -> None:
    lines = printed(trials_table(world.usual())).splitlines()
    small = next(line for line in lines if "trial10" in line)
    assert "★" in small and "95.0 % [94.0, 96.0]" in small and "60.0 % [55.0, 65.0]" in small and "57.2" in small
    large = next(line for line in lines if "trial20" in line)
    assert "★" not in large
    failed = next(line for line in lines if "trial30" in line)
    assert failed.count("missing") == 3 and "failed" in failed


def test_points_table_keeps_the_spread_over_seeds_apart(world: World) -> None:
    result = world.usual()
    assert point_rows(result).headers[:5] == ("", "point", "max_area", "max_aspect", "seeds")
    assert point_rows(result).rows[1].cells == (
        "★", "1", "0.2", "1", "2", "94.0 % ± 1.4", "55.0 % ± 7.1", "57.2 ± 0",
        "no sure utility loss (30.0 / 3.0 points)",
    )  # fmt: skip
    assert point_rows(result).rows[2].cells[5] == "70.0 %"  # one seed has no spread
    assert "no defense" in printed(points_table(result))


def test_the_mean_over_seeds_has_an_interval_over_seeds_and_one_in_total(world: World) -> None:
    cells = point_rows(world.usual(), intervals=True).rows[1].cells
    # Attack 0.6 and 0.5: standard error 0.05, t of one degree 12.7. All people are alike, so the total is the same.
    assert cells[6] == "55.0 % ± 7.1, seeds [0.0, 100.0], total [0.0, 100.0]"
    # Natural 0.95 and 0.93: error 0.01, so 94 -+ 12.7 points, cut at 100; in total a little more than that of images.
    assert cells[5].startswith("94.0 % ± 1.4, seeds [81.3, 100.0], total [")
    assert cells[7] == "57.2 ± 0", "distances of single people were not recorded"


def test_seeds_that_are_all_alike_are_said_to_be_so_and_the_total_is_never_narrower_than_that_of_a_trial(
    world: World,
) -> None:
    result = world.result(*(world.trial(0, {}, seed, 1.0, 1.0, half=0.2) for seed in range(2)))
    cells = point_rows(result, intervals=True).rows[0].cells
    # Trials: 100 % with an interval that begins 1 point below for images, and 20 points below for people.
    assert cells[4] == "100.0 % ± 0.0, seeds all alike, total [99.0, 100.0]"
    assert cells[5] == "100.0 % ± 0.0, seeds all alike, total [80.0, 100.0]"


def test_tables_name_the_defense_where_nothing_is_searched(world: World) -> None:
    result = world.result(world.trial(0, {}, 0, 0.95, 0.9), world.trial(1, {}, 0, 0.95, 0.5), search__space="{}")
    assert [row.cells[2] for row in point_rows(result).rows] == ["no defense", "random_erasing"]


def test_report_holds_every_resource_itself(page: str) -> None:
    references = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page)
    assert references and all(reference.startswith("data:image/png;base64,") for reference in references)
    assert not re.search(r"""(?:src|href)\s*=\s*["']https?://|@import|url\(""", page)


def test_report_names_every_trial_with_its_numbers(page: str) -> None:
    for name in ("trial00", "trial01", "trial10", "trial11", "trial20", "trial30"):
        assert name in page
    for text in ("95.0 % [94.0, 96.0]", "94.0 % ± 1.4", "98.5 % [97.5, 99.5]", "31.4 %", "2.1 %", "10050", "270"):
        assert text in page
    assert page.count('<td class="missing">missing</td>') >= 3
    assert "loss became NaN at &lt;step&gt; 412" in page


def test_report_shows_what_the_artifacts_show(world: World, page: str) -> None:
    # frontier, heat maps, 5 grids of pairs, 3 maps of erased area, 1 sheet of samples
    assert page.count("<img ") == 2 + 5 + 3 + 1
    with Image.open(world.paths.frontier) as picture:
        assert picture.width > 1000


def test_samples_of_every_fitted_prior_are_shown_once_with_the_attacks_that_use_it(world: World) -> None:
    """The spec's prior serves all trials; PLG-MI's own is fitted anew for each target model."""
    resolved = digits(attacks="[{kind: gmi}, {kind: gmi, name: longer, steps: 9}, {kind: plgmi}]")
    trials = []
    for seed in (0, 1):
        plan = plan_trial(resolved, Trial(f"trial{seed}", 0, {}, seed, baseline=True), undefended(resolved.spec))
        leave_artifacts(world.store, plan, {})
        utility = {"natural_accuracy": estimate(0.98, 0.01, n=270, method="wilson")}
        trials.append(TrialResult(plan, "done", "", utility, {"gmi": attacked(0.9, 0.05)}))
    write_report(SweepResult(resolved, tuple(trials), {}), world.store, world.paths)
    page = world.paths.report.read_text(encoding="utf-8")
    captions = re.findall(r"<figcaption>Samples of the prior of (.*?), [0-9a-f]{12}</figcaption>", page)
    assert sorted(captions) == ["gmi, longer", "plgmi", "plgmi"]


def test_report_of_a_sweep_without_results(world: World) -> None:
    write_report(world.result(world.failed(1, SMALL, "out of memory")), world.store, world.paths)
    page = world.paths.report.read_text(encoding="utf-8")
    assert "No point has all its trials done" in page and "out of memory" in page


def test_headlines_say_what_the_numbers_say(world: World) -> None:
    text = " ".join(findings(world.usual()))
    assert "5 of 6 trials are done; 1 failed and is listed below." in text
    assert "By their means, no other point beats these 2 of 3: no defense" in text
    assert "Best of 2 defended points by both gains added: max_area 0.2, max_aspect 1." in text
    assert "gmi attack accuracy falls by 30.0 percentage points (85.0 % to 55.0 %)" in text
    assert "natural accuracy falls by 3.0 percentage points (97.0 % to 94.0 %)" in text
    assert "It helps: gmi attack accuracy falls by" in text
    assert "for all points together, for this prior and this judge alone. Natural accuracy: not decided by" in text
    assert "more training seeds would decide a change of this size." in text


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        # Twenty people who all fall alike: the error is 1/22, and t of 19 degrees is 2.093, so the ends are 9.5 off.
        (0.9, "Gmi attack accuracy: not decided by this sweep; against no defense it changes by -9.5 points to +9.5 "
              "points."),
        (0.85, "changes by -14.5 points to +4.5 points. About 53 more identities would decide a change of this size."),
        (0.5, "It helps: gmi attack accuracy falls by 30.5 points to 49.5 points, with 95 % confidence for all points "
              "together, for these trained models and this prior and this judge alone."),
        (1.0, "It harms: gmi attack accuracy rises by 0.5 points to 19.5 points"),
    ],
)  # fmt: skip
def test_headlines_say_no_more_than_intervals_of_paired_differences_allow(
    world: World, attack: float, said: str
) -> None:
    result = world.result(world.trial(0, {}, 0, 0.95, 0.9), world.trial(1, SMALL, 0, 0.95, attack))
    text = " ".join(findings(result))
    assert said in text and "one training seed" in text


def test_headlines_say_how_sure_a_place_on_the_frontier_is(world: World) -> None:
    """Everybody falls alike, so no resample has the baseline ahead in both."""
    result = world.result(world.trial(0, {}, 0, 0.95, 0.9), world.trial(1, SMALL, 0, 0.90, 0.5))
    text = " ".join(findings(result))
    assert "gmi attack accuracy 50.0 %; so in 100 % of resamples)" in text
    assert "There is one judge: what another training of it would change, no interval holds. There is one prior" in text
    assert text.endswith("Numbers are means over 1 training seed, 1 prior and 1 judge.")


def test_headlines_say_how_often_everything_was_drawn(world: World) -> None:
    trials = []
    for point, params in enumerate(({}, SMALL)):
        trial = world.trial(point, params, 0, 0.95, 0.9)
        (draw,) = trial.attacks["gmi"].draws
        draws = tuple(dataclasses.replace(draw, judge=judge) for judge in range(3))
        attacked = dataclasses.replace(trial.attacks["gmi"], draws=draws)
        trials.append(dataclasses.replace(trial, attacks={"gmi": attacked}))
    text = " ".join(findings(world.result(*trials)))
    assert "There is one judge" not in text and "There is one prior" in text
    assert text.endswith("Numbers are means over 1 training seed, 1 prior and 3 judges.")


def test_the_answer_comes_first(world: World) -> None:
    assert findings(world.usual())[0].startswith("Best of 2 defended points by both gains added: max_area 0.2")


def test_an_attack_that_may_be_guessing_without_defense_says_nothing_of_defenses(world: World) -> None:
    """Five digits: chance is 20 %, which the interval of 23 % +- 5 holds."""
    result = world.result(world.trial(0, {}, 0, 0.95, 0.23), world.trial(1, SMALL, 0, 0.95, 0.05))
    text = " ".join(findings(result))
    assert "says nothing of what a defense buys against gmi" in text and "helps" not in text
    assert "guessing reaches (23.0 % against 20.0 %). Attack harder" in text


@pytest.mark.parametrize(("distance", "is_against"), [(30.0, True), (57.25, False), (80.0, False)])
def test_a_distance_that_contradicts_a_fall_of_accuracy_is_said_beside_it(
    world: World, distance: float, is_against: bool
) -> None:
    """Without a defense reconstructions are 57.25 from private images; nearer ones leak more."""
    defended = world.trial(1, SMALL, 0, 0.95, 0.5)
    [draw] = defended.attacks["gmi"].draws
    nearer = {**draw.estimates, "knn_distance": estimate(distance, 8.0, n=5, method="bootstrap")}
    attack = dataclasses.replace(defended.attacks["gmi"], draws=(dataclasses.replace(draw, estimates=nearer),))
    result = world.result(world.trial(0, {}, 0, 0.95, 0.9), dataclasses.replace(defended, attacks={"gmi": attack}))
    against = [text for text in findings(result) if "says the opposite" in text]
    assert against == (
        ["By its mean, gmi knn distance says the opposite (57.2 to 30, higher is better), which is not decided."]
        if is_against
        else []
    )


def confirmed(world: World) -> SweepResult:
    """The small area looked 30 points better than no defense in the search, and is 10 better when confirmed."""
    return world.result(
        world.trial(0, {}, 0, 0.95, 0.9),
        world.trial(1, SMALL, 0, 0.95, 0.6),
        world.trial(2, LARGE, 0, 0.7, 0.65),
        world.trial(0, {}, 1, 0.95, 0.8, stage="confirm"),
        world.trial(1, SMALL, 1, 0.95, 0.7, stage="confirm"),
    )


def test_confirmed_points_are_reported_from_their_confirmation_alone(world: World) -> None:
    result = confirmed(world)
    assert result.stage == "confirm"
    assert [point.point for point in result.points()] == [0, 1]
    assert result.pareto() == ("trial11",)
    text = " ".join(findings(result))
    assert "gmi attack accuracy falls by 10.0 percentage points (80.0 % to 70.0 %)" in text
    assert (
        "had shown a gain of 30.0 points in gmi attack accuracy; confirmed, it is 10.0 points: the first was too"
        in text
    )
    assert "flatters" not in text


def test_tables_of_a_confirmed_sweep_have_stages_and_what_was_too_good(world: World) -> None:
    result = confirmed(world)
    rows = point_rows(result)
    assert rows.headers[:3] == ("", "point", "stage")
    assert [(row.cells[1], row.cells[2], row.on_frontier) for row in rows.rows] == [
        ("0", "search", False), ("1", "search", False), ("2", "search", False),
        ("0", "confirm", False), ("1", "confirm", True),
    ]  # fmt: skip
    attack = optimism_rows(result).rows[1].cells
    assert attack[:7] == ("", "1", "0.2", "1", "gmi attack accuracy", "30.0 %", "10.0 %")
    # Twenty people who all change alike: by 20 points, and the interval has no width but what people could have.
    assert attack[7].startswith("20.0 %")
    (natural, accuracy) = optimism(result)
    assert natural.optimism == pytest.approx(0)
    assert accuracy.optimism == pytest.approx(0.2)


def test_what_is_not_confirmed_yet_is_reported_from_the_search_and_said_to_be_flattered(world: World) -> None:
    waiting = dataclasses.replace(world.trial(1, SMALL, 2, 0.95, 0.7, stage="confirm"), status="running")
    unfinished = world.result(*confirmed(world).trials, waiting, search__confirm="{}")
    assert unfinished.stage == "search"
    assert "the points are not all confirmed yet" in " ".join(findings(unfinished))


def test_headlines_do_not_compare_other_people(world: World) -> None:
    defended = world.trial(1, SMALL, 0, 0.95, 0.1)
    [draw] = defended.attacks["gmi"].draws
    fewer = dataclasses.replace(
        defended.attacks["gmi"], draws=(dataclasses.replace(draw, identities=draw.identities[1:]),)
    )
    others = dataclasses.replace(defended, attacks={"gmi": fewer})
    text = " ".join(findings(world.result(world.trial(0, {}, 0, 0.95, 0.9), others)))
    assert "Gmi attack accuracy: not decided by this sweep. It has no values of the same people" in text
    assert "It helps" not in text


@pytest.mark.parametrize(
    ("undefended", "defended", "said"),
    [
        (0.9, 0.4, None),  # gmi gets more, 0.5
        (0.9, 0.5, None),
        (0.9, 0.7, "gmi is not the strongest attack on it: lomma attack accuracy falls by 20.0 percentage points "
         "(90.0 % to 70.0 %)."),
        (0.9, 0.9, "gmi is not the strongest attack on it: lomma attack accuracy stays at 90.0 %, which this sweep "
         "does not decide."),
    ],
)  # fmt: skip
def test_headlines_tell_of_an_attack_that_gets_more_than_the_one_traded_against(
    world: World, undefended: float, defended: float, said: str | None
) -> None:
    plain, erased = world.trial(0, {}, 0, 0.95, 0.9), world.trial(1, SMALL, 0, 0.95, 0.5)
    trials = [
        dataclasses.replace(trial, attacks={**trial.attacks, "lomma": attacked(value, 0.05)})
        for trial, value in ((plain, undefended), (erased, defended))
    ]
    sentences = [text for text in findings(world.result(*trials)) if "strongest" in text]
    assert sentences == ([] if said is None else [said])


def test_headlines_without_a_baseline(world: World) -> None:
    text = " ".join(findings(world.result(world.trial(1, SMALL, 0, 0.95, 0.5))))
    assert "There is no finished baseline" in text


def test_frontier_figure_labels_do_not_cover_each_other(world: World) -> None:
    points = [world.trial(at, {AREA: at / 10, ASPECT: 1.0}, 0, 0.97 + at / 1000, 0.5 + at / 50) for at in range(8)]
    figure = frontier_figure(world.result(*points))
    boxes = [Text.get_window_extent(label) for label in figure.axes[0].texts]  # without the lines to the points
    assert len(boxes) == 8
    assert not any(box.overlaps(earlier) for index, box in enumerate(boxes) for earlier in boxes[:index])


def test_frontier_figure_has_the_chance_line(world: World) -> None:
    plot = frontier_figure(world.usual()).axes[0]
    chance = [line for line in plot.lines if "chance" in str(line.get_label())]
    assert [list(np.asarray(line.get_ydata())) for line in chance] == [[20.0, 20.0]]


def test_heat_maps_show_both_objectives(world: World) -> None:
    figure = heat_maps(world.usual())
    assert figure is not None
    texts = [{text.get_text() for text in plot.texts} for plot in figure.axes]
    assert texts == [{"94.0 %", "70.0 %", "not run"}, {"55.0 %", "65.0 %", "not run"}]


@pytest.mark.parametrize(
    "space",
    [
        "{defenses.0.max_area: {kind: choice, values: [0.2, 0.8]}}",
        "{defenses.0.max_area: {kind: uniform, low: 0.2, high: 0.8}, defenses.0.max_aspect: {values: [1.0, 3.0]}}",
    ],
)
def test_heat_maps_need_two_fields_of_few_values(world: World, space: str) -> None:
    overrides = {
        "search__sampler": "{kind: random, points: 2}",
        "search__space": space.replace("{values", "{kind: choice, values"),
    }
    assert heat_maps(world.result(world.trial(1, {AREA: 0.2}, 0, 0.95, 0.5), **overrides)) is None


# Feature space

PANEL = {
    "identity": "7",
    "private": [[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [0.5, 0.5]],
    "erased": [[1.0, 0.0], [3.0, 0.0], [1.0, 2.0], [1.5, 0.5]],
    "reconstructed": [[2.0, 0.0], [4.0, 0.0], [2.0, 2.0], [2.5, 0.5]],
}


@pytest.fixture
def with_points(world: World) -> World:
    world.judged["feature_space_evaluation.json"] = json.dumps([PANEL, {**PANEL, "identity": "8"}]).encode()
    return world


def test_feature_space_is_shown_without_defense_and_for_the_strongest_one(with_points: World) -> None:
    captions = [caption for caption, _ in feature_spaces(with_points.usual(), with_points.store)]
    assert captions == [
        "gmi on trial trial00: no defense, seed 0; features: evaluation",
        "gmi on trial trial11: max_area 0.2, max_aspect 1, seed 1; features: evaluation",
    ]


def test_the_report_holds_the_feature_spaces(with_points: World) -> None:
    write_report(with_points.usual(), with_points.store, with_points.paths)
    page = with_points.paths.report.read_text(encoding="utf-8")
    assert "<h2>Feature space</h2>" in page
    assert page.count("<img ") == 2 + 5 + 3 + 1 + 2


def test_a_report_without_points_has_no_feature_space(page: str) -> None:
    assert "Feature space" not in page


def test_each_identity_has_a_panel_with_its_points_and_hulls() -> None:
    figure = feature_space_figure([PANEL, {**PANEL, "identity": "8"}])
    assert [plot.get_title() for plot in figure.axes] == ["7", "8"]
    marks = [np.asarray(points.get_offsets()).tolist() for points in figure.axes[0].collections]
    assert marks == [PANEL["erased"], PANEL["private"], PANEL["reconstructed"]]
    hulls = [hull for hull in figure.axes[0].patches if isinstance(hull, Polygon)]
    corners = [{tuple(corner) for corner in hull.get_xy().tolist()} for hull in hulls]
    assert corners[1] == {(0.0, 0.0), (2.0, 0.0), (0.0, 2.0)}, "the inner point is no corner"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "private images, erased",
        "private images",
        "reconstructions",
    ]
