"""What may be said of one point against no defense: only what intervals of paired differences decide."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.reports.tables import in_words, is_fraction, number
from orchestrator.results.paired_points import against_baseline
from orchestrator.results.sweep_result import PointResult, SweepResult
from orchestrator.search.space import Objective
from orchestrator.statistics.paired import Difference

MOST_TO_ADD = 100_000
"""With more identities or seeds to add than this, a change is too small to be worth deciding."""
NOT_PAIRED = "It has no values of the same people or images, with the same seeds, with and without the defense."


def chance_of(result: SweepResult, name: str) -> float | None:
    """The share of reconstructions that guessing gets right; None where the spec does not say among how many."""
    identities = getattr(result.resolved.spec.data.private, "identities", None)
    if not isinstance(identities, tuple | list) or not identities or not name.endswith("attack_accuracy"):
        return None
    return 1 / len(identities)


def verdict(result: SweepResult, best: PointResult, objective: Objective, good: str, bad: str) -> Iterator[str]:
    """Whether a number gets better or worse with the defense, where the interval of paired differences decides it."""
    name = objective.metric
    change = against_baseline(result.points(), name).get(best.point)
    if change is None:
        yield f"{capital(in_words(name))}: not decided by this sweep. {NOT_PAIRED}"
    elif change.sign == 0:
        yield _undecided(change, name)
    else:
        better = (change.sign > 0) == (objective.goal == "max")
        yield f"{good if better else bad}: {_surely(change, name)}."


def contradictions(result: SweepResult, best: PointResult, baseline: PointResult, y: Objective) -> Iterator[str]:
    """The other numbers of the attack by which the point leaks more, where by that of the trade it leaks less."""
    label, _, metric = y.metric.partition(".")
    if (1 if y.goal == "min" else -1) * (baseline.mean(y.metric) - best.mean(y.metric)) <= 0:
        return
    measured = set.intersection(*(set(trial.estimates()) for point in (best, baseline) for trial in point.trials))
    for name, sign in result.leak_signs.items():
        full = f"{label}.{name}"
        if name == metric or full not in measured or (best.mean(full) - baseline.mean(full)) * sign <= 0:
            continue
        change = against_baseline(result.points(), full).get(best.point)
        ends = f"{number(full, baseline.mean(full))} to {number(full, best.mean(full))}"
        if change is not None and change.sign:
            yield f"Against that stands {in_words(full)}, by which it leaks more: {ends}; {_surely(change, full)}."
        else:
            way = "lower" if sign > 0 else "higher"
            yield f"By its mean, {in_words(full)} says the opposite ({ends}, {way} is better), which is not decided."


def _surely(change: Difference, name: str) -> str:
    """A change with its interval, and what it holds for alone."""
    low, high = (points_text(name, end) for end in sorted((abs(change.low), abs(change.high))))
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
    low, high = (f"{'-' if end < 0 else '+'}{points_text(name, abs(end))}" for end in (change.low, change.high))
    nouns = ("identities" if "." in name else "images", "training seeds", "priors", "judges")
    additions = {noun: change.more(part) for noun, part in zip(nouns, (change.units, *change.draws), strict=True)}
    ways = [f"{count} more {noun}" for noun, count in additions.items() if count is not None and count < MOST_TO_ADD]
    more = f"About {' or '.join(ways)} would decide a change of this size" if ways else "It may be too small to matter"
    text = f"{capital(in_words(name))}: not decided by this sweep"
    return f"{text}; against no defense it changes by {low} to {high}. {more}."


def points_text(name: str, value: float) -> str:
    """A difference as people read it: '12.3 points' of fractions, '57.3' of others."""
    text = number(name, value)
    return f"{text.removesuffix(' %')} points" if is_fraction(name) else text


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]
