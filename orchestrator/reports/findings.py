"""What a sweep shows, as sentences with their numbers: progress, frontier, the best defense against none, caveats."""

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
from orchestrator.results.paired_points import above_floor, against_baseline, membership
from orchestrator.results.sweep_result import PointResult, SweepResult
from orchestrator.search.space import Objective
from orchestrator.statistics.paired import Difference
from workloads.core.words import counted

MOST_TO_ADD = 100_000
"""With more identities or seeds to add than this, a change is too small to be worth deciding."""
_FLOORS = {
    "null": "samples of its prior that nothing improved",
    "nearest_public": "the public images that the target likes best",
}
NOT_PAIRED = "It has no values of the same people or images, with the same seeds, with and without the defense."


def findings(result: SweepResult) -> list[str]:
    """What a sweep shows, in sentences, and what it does not show."""
    return [_progress(result), *_on_frontier(result), *_against_baseline(result), *_caveats(result)]


def _progress(result: SweepResult) -> str:
    done, failed = len(result.finished), sum(trial.status == "failed" for trial in result.trials)
    text = f"{done} of {len(result.trials)} trials are done"
    return f"{text}; {failed} failed and {'is' if failed == 1 else 'are'} listed below." if failed else f"{text}."


def _on_frontier(result: SweepResult) -> Iterator[str]:
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
        share = f"; on the frontier in {100 * sure[point.point]:.0f} % of resamples" if point.point in sure else ""
        texts.append(f"{point_label(point, names)} ({numbers}{share})")
    yield f"By their means, no other point beats these {len(texts)} of {len(points)}: {'; '.join(texts)}."


def _against_baseline(result: SweepResult) -> Iterator[str]:
    x, y = axes(result)
    points = [point for point in result.points() if _has(point, x, y)]
    baseline = next((point for point in points if point.baseline), None)
    defended = [point for point in points if point.trials[0].plan.defenses]
    if baseline is None:
        yield "There is no finished baseline, so nothing here says whether a defense helps."
    elif not defended:
        yield "No point with a defense is finished, so nothing here says whether one helps."
    else:
        best = max(defended, key=lambda point: _merit(point, baseline, x, y))
        yield _comparison(result, best, baseline, len(defended))
        weak = weak_attack(result, baseline, y)
        yield from [weak] if weak else _verdict(result, best, y, "It helps", "It harms")
        yield from _verdict(result, best, x, "It costs nothing", "It is paid for")
        yield from _strongest(result, best, baseline, y)


def weak_attacks(result: SweepResult) -> list[str]:
    """A sentence for each attack that does not surely beat its floor where there is no defense."""
    baseline = next((point for point in result.points() if point.baseline), None)
    _, y = axes(result)
    metric = y.metric.rpartition(".")[2]
    if baseline is None:
        return []
    names = [f"{label}.{metric}" for label in baseline.trials[0].attacks]
    objectives = [Objective(metric=name, goal=y.goal) for name in names if name in baseline.trials[0].estimates()]
    return [weak for objective in objectives if (weak := weak_attack(result, baseline, objective))]


def weak_attack(result: SweepResult, baseline: PointResult, y: Objective) -> str:
    """Why a number of an attack says nothing of defenses, if it does not; empty where the attack beats its floor."""
    label, _, metric = y.metric.partition(".")
    sign = result.leak_signs.get(metric)
    scales = [result.scale(trial, y.metric) for trial in baseline.trials]
    floors = [scale.floor for scale in scales if scale.floor is not None]
    if sign is None or len(floors) < len(scales):
        return ""
    floor = fmean(floors)
    difference = above_floor(baseline, y.metric, scales[0].floor_name)
    if difference is not None and difference.sign == sign:
        return ""
    values = f"{number(y.metric, baseline.mean(y.metric))} against {number(y.metric, floor)}"
    return (
        f"This sweep says nothing of what a defense buys against {label}: without any, its {in_words(metric)} is not "
        f"surely beyond what {_FLOORS[scales[0].floor_name.partition('.')[0]]} reach ({values}). Attack harder: more "
        "steps or restarts, a better prior, or another attack."
    )


def _has(point: PointResult, *objectives: Objective) -> bool:
    return all(objective.metric in trial.estimates() for objective in objectives for trial in point.trials)


def _gain(point: PointResult, baseline: PointResult, objective: Objective) -> float:
    """How much better than the baseline a point is, in the unit of the objective; negative if worse."""
    sign = 1 if objective.goal == "max" else -1
    return sign * (point.mean(objective.metric) - baseline.mean(objective.metric))


def _merit(point: PointResult, baseline: PointResult, x: Objective, y: Objective) -> tuple[float, float]:
    """What defended points are ranked by: the sum of both gains if they share a unit, else the second gain first."""
    gains = _gain(point, baseline, x), _gain(point, baseline, y)
    shares_unit = is_fraction(x.metric) and is_fraction(y.metric)
    return (sum(gains), gains[1]) if shares_unit else (gains[1], gains[0])


def _comparison(result: SweepResult, best: PointResult, baseline: PointResult, candidates: int) -> str:
    x, y = axes(result)
    rule = "both gains added" if is_fraction(x.metric) and is_fraction(y.metric) else in_words(y.metric)
    changes = " and ".join(_change(best, baseline, objective.metric) for objective in (y, x))
    label = point_label(best, short_names(result))
    which = "The one defended point" if candidates == 1 else f"Best of {candidates} defended points by {rule}"
    return f"{which}: {label}. Against no defense, {changes}."


def _change(point: PointResult, baseline: PointResult, name: str) -> str:
    before, after = baseline.mean(name), point.mean(name)
    size = number(name, abs(after - before))
    size = f"{size.removesuffix(' %')} percentage points" if is_fraction(name) else size
    ends = f"({number(name, before)} to {number(name, after)})"
    if before == after:
        return f"{in_words(name)} stays at {number(name, after)}"
    return f"{in_words(name)} {'rises' if after > before else 'falls'} by {size} {ends}"


def _verdict(result: SweepResult, best: PointResult, objective: Objective, good: str, bad: str) -> Iterator[str]:
    """Whether a number gets better or worse with the defense, where the interval of paired differences decides it."""
    name = objective.metric
    change = against_baseline(result.points(), name).get(best.point)
    if change is None:
        yield f"{_capital(in_words(name))}: not decided by this sweep. {NOT_PAIRED}"
    elif change.sign == 0:
        yield _undecided(change, name)
    else:
        better = (change.sign > 0) == (objective.goal == "max")
        yield f"{good if better else bad}: {_surely(change, name)}."


def _surely(change: Difference, name: str) -> str:
    """A change with its interval, and what it holds for alone."""
    low, high = (_size(name, end) for end in sorted((abs(change.low), abs(change.high))))
    verb = "rises" if change.sign > 0 else "falls"
    alone = " and ".join(_drawn_once(change, name))
    scope = f", for {alone} alone" if alone else ""
    return f"{in_words(name)} {verb} by {low} to {high}, with 95 % confidence for all points together{scope}"


def _drawn_once(change: Difference, name: str) -> Iterator[str]:
    """What there is one of, for which alone a change holds."""
    training, *others = change.draws
    if training.count == 1:
        yield "these trained models"
    for part, noun in zip(others, ("prior", "judge"), strict=True):
        if part.count == 1 and "." in name:
            yield f"this {noun}"


def _undecided(change: Difference, name: str) -> str:
    """The interval of a change that may be none, and what would decide it."""
    low, high = (f"{'-' if end < 0 else '+'}{_size(name, abs(end))}" for end in (change.low, change.high))
    nouns = ("identities" if "." in name else "images", "training seeds", "priors", "judges")
    additions = {noun: change.more(part) for noun, part in zip(nouns, (change.units, *change.draws), strict=True)}
    ways = [f"{count} more {noun}" for noun, count in additions.items() if count is not None and count < MOST_TO_ADD]
    more = f"About {' or '.join(ways)} would decide a change of this size" if ways else "It may be too small to matter"
    text = f"{_capital(in_words(name))}: not decided by this sweep"
    return f"{text}; against no defense it changes by {low} to {high}. {more}."


def _size(name: str, value: float) -> str:
    text = number(name, value)
    return f"{text.removesuffix(' %')} points" if is_fraction(name) else text


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


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


def _caveats(result: SweepResult) -> Iterator[str]:
    points = result.points()
    if len(points) > 2:
        yield "The best of several points was picked by the very numbers shown, which flatters its means."
    if not points:
        return
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
