"""What a sweep shows, as sentences with their numbers: the answer first, then what contradicts it, and what is open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from orchestrator.reports.tables import (
    axes,
    frontier_points,
    in_words,
    is_fraction,
    number,
    point_label,
    short_names,
    with_spread,
)
from orchestrator.reports.verdicts import chance_of, contradictions, points_text, verdict
from orchestrator.results.confirmation import optimism
from orchestrator.results.paired_points import above_floor, against_baseline, mean_interval, membership
from orchestrator.results.sweep_result import PointResult, SweepResult
from orchestrator.search.ranking import merit
from orchestrator.search.space import Objective
from workloads.core.words import counted

_FLOORS = {
    "null": "samples of its prior that nothing improved",
    "nearest_public": "the public images that the target likes best",
}


def findings(result: SweepResult) -> list[str]:
    """What a sweep shows, in sentences, and what it does not show."""
    return [*_answer(result), *_on_frontier(result), _progress(result), *_caveats(result)]


def _answer(result: SweepResult) -> Iterator[str]:
    """Which setting, what it buys and costs, how sure that is and against which attacker; then what contradicts it."""
    x, y = axes(result)
    points = [point for point in result.points() if _has(point, x, y)]
    baseline = next((point for point in points if point.baseline), None)
    defended = [point for point in points if point.trials[0].plan.defenses]
    if baseline is None:
        yield "There is no finished baseline, so nothing here says whether a defense helps."
    elif not defended:
        yield "No point with a defense is finished, so nothing here says whether one helps."
    else:
        best = max(defended, key=lambda point: merit([point.mean(x.metric), point.mean(y.metric)], (x, y)))
        yield _comparison(result, best, baseline, len(defended))
        weak = weak_attack(result, baseline, y.metric)
        yield from [weak] if weak else verdict(result, best, y, "It helps", "It harms")
        yield from verdict(result, best, x, "It costs nothing", "It is paid for")
        yield from _optimism(result, best)
        if not weak:
            yield from contradictions(result, best, baseline, y)
        yield from _strongest(result, best, baseline, y)


def weak_attacks(result: SweepResult) -> list[str]:
    """A sentence for each attack that does not surely beat its floor where there is no defense."""
    baseline = next((point for point in result.points() if point.baseline), None)
    _, y = axes(result)
    metric = y.metric.rpartition(".")[2]
    if baseline is None:
        return []
    names = [f"{label}.{metric}" for label in baseline.trials[0].attacks]
    measured = [name for name in names if name in baseline.trials[0].estimates()]
    return [weak for name in measured if (weak := weak_attack(result, baseline, name))]


def weak_attack(result: SweepResult, baseline: PointResult, name: str) -> str:
    """Why a number of an attack says nothing of defenses, if it does not; empty where it beats its floor, or chance."""
    label, _, metric = name.partition(".")
    reached = _reached_without_attack(result, baseline, name)
    if reached is None:
        return ""
    return (
        f"This sweep says nothing of what a defense buys against {label}: without any, its {in_words(metric)} is not "
        f"surely beyond what {reached}. Attack harder: more steps or restarts, a better prior, or another attack."
    )


def _reached_without_attack(result: SweepResult, baseline: PointResult, name: str) -> str | None:
    """What reaches as much as the attack may, with both numbers; None if it is beaten, or not known."""
    sign = result.leak_signs.get(name.partition(".")[2])
    scales = [result.scale(trial, name) for trial in baseline.trials]
    floors = [scale.floor for scale in scales if scale.floor is not None]
    value = number(name, baseline.mean(name))
    if sign is None:
        return None
    if len(floors) == len(scales):
        difference = above_floor(baseline, name, scales[0].floor_name)
        is_beaten = difference is not None and difference.sign == sign
        reached = _FLOORS[scales[0].floor_name.partition(".")[0]]
        return None if is_beaten else f"{reached} reach ({value} against {number(name, fmean(floors))})"
    chance = chance_of(result, name)
    is_beaten = chance is None or mean_interval(baseline, name)[0] > chance
    return None if is_beaten or chance is None else f"guessing reaches ({value} against {number(name, chance)})"


def _has(point: PointResult, *objectives: Objective) -> bool:
    return all(objective.metric in trial.estimates() for objective in objectives for trial in point.trials)


def _comparison(result: SweepResult, best: PointResult, baseline: PointResult, candidates: int) -> str:
    """The setting that is picked, and how far it moves both numbers by their means."""
    x, y = axes(result)
    rule = "both gains added" if is_fraction(x.metric) and is_fraction(y.metric) else in_words(y.metric)
    changes = " and ".join(_change(best, baseline, objective.metric) for objective in (y, x))
    label = point_label(best, short_names(result))
    confirmed = ", confirmed with fresh trainings, judges and priors" if best.stage == "confirm" else ""
    which = "The one defended point" if candidates == 1 else f"Best of {candidates} defended points by {rule}"
    return f"{which}{confirmed}: {label}. Against no defense, {changes}."


def _change(point: PointResult, baseline: PointResult, name: str) -> str:
    before, after = baseline.mean(name), point.mean(name)
    size = number(name, abs(after - before))
    size = f"{size.removesuffix(' %')} percentage points" if is_fraction(name) else size
    ends = f"({number(name, before)} to {number(name, after)})"
    if before == after:
        return f"{in_words(name)} stays at {number(name, after)}"
    return f"{in_words(name)} {'rises' if after > before else 'falls'} by {size} {ends}"


def _optimism(result: SweepResult, best: PointResult) -> Iterator[str]:
    """How much of what the search promised of the point was left when it was confirmed."""
    for change in optimism(result):
        if change.point == best.point:
            searched, confirmed, more = (
                points_text(change.number, gain) for gain in (change.searched, change.confirmed, change.optimism)
            )
            interval = ""
            if change.low is not None and change.high is not None:
                low, high = points_text(change.number, change.low), points_text(change.number, change.high)
                interval = f", 95 % interval {low} to {high}"
            yield (
                f"The search that picked it had shown a gain of {searched} in {in_words(change.number)}; confirmed, it "
                f"is {confirmed}: the first was too good by {more}{interval}."
            )


def _strongest(result: SweepResult, best: PointResult, baseline: PointResult, y: Objective) -> Iterator[str]:
    """The attack that gets most out of the defended point, if it is not the one the sweep trades against."""
    label, _, metric = y.metric.partition(".")
    sign = 1 if y.goal == "min" else -1
    names = [name for name in best.trials[0].estimates() if name.partition(".")[2] == metric]
    strongest = max(names, key=lambda name: sign * best.mean(name))
    if not metric or sign * best.mean(strongest) <= sign * best.mean(y.metric):
        return
    change = against_baseline(result.points(), strongest).get(best.point)
    unsure = "" if change is not None and change.sign else ", which this sweep does not decide"
    yield f"{label} is not the strongest attack on it: {_change(best, baseline, strongest)}{unsure}."


def _on_frontier(result: SweepResult) -> Iterator[str]:
    """The points that no other beats by its means, with how often that holds when everything is drawn again."""
    best, points = frontier_points(result), result.points()
    if not points:
        yield "No point has all its trials done, so there is no frontier yet."
        return
    names = short_names(result)
    objectives = result.resolved.spec.search.objectives
    sure = membership(points, objectives)
    texts = []
    for point in (point for point in points if point.point in best):
        numbers = ", ".join(
            f"{in_words(objective.metric)} {with_spread(point, objective.metric)}" for objective in objectives
        )
        share = f"; so in {100 * sure[point.point]:.0f} % of resamples" if point.point in sure else ""
        texts.append(f"{point_label(point, names)} ({numbers}{share})")
    confirmed = " confirmed points" if result.stage == "confirm" else ""
    yield f"By their means, no other point beats these {len(texts)} of {len(points)}{confirmed}: {'; '.join(texts)}."


def _progress(result: SweepResult) -> str:
    done, failed = len(result.finished), sum(trial.status == "failed" for trial in result.trials)
    text = f"{done} of {len(result.trials)} trials are done"
    return f"{text}; {failed} failed and {'is' if failed == 1 else 'are'} listed below." if failed else f"{text}."


def _caveats(result: SweepResult) -> Iterator[str]:
    points = result.points()
    if not points:
        return
    if result.stage == "search" and len(points) > 2:
        way_out = (
            "the points are not all confirmed yet"
            if result.resolved.spec.search.confirm is not None
            else "`search: {confirm: {}}` measures it again with other seeds"
        )
        yield f"The best of several points was picked by the very numbers shown, which flatters its means: {way_out}."
    if max(len(point.trials) for point in points) == 1:
        yield "There is one training seed: how much another would change the numbers is not known."
    yield from _drawn(points)


def _drawn(points: Sequence[PointResult]) -> Iterator[str]:
    """How often trainings, priors and judges were drawn, and what no interval holds since it was drawn once."""
    trials = [trial for point in points for trial in point.trials]
    judges = {len({draw.judge for draw in attack.draws}) for trial in trials for attack in trial.attacks.values()}
    priors = {
        len({draw.prior for draw in attack.draws})
        for trial in trials
        for attack in trial.attacks.values()
        if trial.plan.keys.attacks[attack.label].prepares
    }
    for noun, counts in (("judge", judges), ("prior of some attack", priors)):
        if 1 in counts:
            yield f"There is one {noun}: what another training of it would change, no interval holds."
    drawn = {"training seed{s}": {len(point.trials) for point in points}, "prior{s}": priors, "judge{s}": judges}
    texts = [
        counted(min(counts), noun) if len(counts) == 1 else f"{min(counts)} to {counted(max(counts), noun)}"
        for noun, counts in drawn.items()
        if counts
    ]
    yield f"Numbers are means over {', '.join(texts[:-1])} and {texts[-1]}."
