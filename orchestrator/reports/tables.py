"""Results as rows of text, for the terminal and the report; here alone do fractions become per cent."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from orchestrator.planning.graph import Stage
from orchestrator.results.comparison import Comparison
from orchestrator.results.confirmation import optimism
from orchestrator.results.paired_points import against_baseline, intervals_of_mean
from orchestrator.results.pooling import SPREADS, EstimateRecord
from orchestrator.results.scale import Scale
from orchestrator.results.sweep_result import PointResult, SweepResult, TrialResult
from orchestrator.results.trade_off import TradeOff, trade_off
from orchestrator.search.space import Objective
from orchestrator.search.units import FRACTION, unit_of

MISSING = "missing"
STAR = "★"
_ABOUT_SCALES = "; in parentheses from what an attack has to beat to what real images reach"
FEW = 6  # numbers side by side in a terminal


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    cells: tuple[str, ...]
    on_frontier: bool
    """Whether the point of the line is one that no other beats."""


@dataclass(frozen=True)
class Rows:
    """A table as text."""

    headers: tuple[str, ...]
    rows: tuple[Row, ...]


def axes(result: SweepResult) -> tuple[Objective, Objective]:
    """The two axes of the trade: the first two objectives, or the only one beside natural or attack accuracy."""
    label = result.resolved.spec.attacks[0].label
    usual = (
        Objective(metric="natural_accuracy", goal="max"),
        Objective(metric=f"{label}.attack_accuracy", goal="min"),
    )
    objectives = result.resolved.spec.search.objectives
    named = {objective.metric for objective in objectives}
    first, second, *_ = [*objectives, *(objective for objective in usual if objective.metric not in named)]
    return first, second


def frontier_points(result: SweepResult) -> frozenset[int]:
    """Numbers of the points on the frontier."""
    best = set(result.pareto())
    return frozenset(trial.plan.trial.point for trial in result.trials if trial.id in best)


def metric_names(result: SweepResult) -> tuple[str, ...]:
    """Every number that some trial has, or the objectives' where none is done."""
    seen = dict.fromkeys(name for trial in result.finished for name in trial.estimates())
    return tuple(seen or (objective.metric for objective in result.resolved.spec.search.objectives))


def few_names(result: SweepResult) -> tuple[tuple[str, ...], str]:
    """The numbers that a terminal has room for, objectives and accuracies first, and a remark on the others."""
    names = metric_names(result)
    searched = result.resolved.spec.search.objectives
    objectives = [objective.metric for objective in searched if objective.metric in names]
    accuracies = [name for name in names if name.endswith("accuracy")]
    first = tuple(dict.fromkeys([*objectives, *accuracies, *names]))[:FEW]
    shown = tuple(name for name in names if name in first)
    rest = len(names) - len(shown)
    return shown, f"; {rest} more numbers are in the report" if rest else ""


def in_words(name: str) -> str:
    """'gmi.attack_accuracy' as 'gmi attack accuracy'."""
    return name.replace(".", " ").replace("_", " ")


def is_fraction(name: str) -> bool:
    """Whether a number is a fraction in [0, 1], shown in per cent."""
    return unit_of(name) == FRACTION


def number(name: str, value: float) -> str:
    """A number as people read it: fractions in per cent, others to three digits.

    >>> number("natural_accuracy", 0.875), number("gmi.knn_distance", 57.277)
    ('87.5 %', '57.3')
    """
    return f"{100 * value:.1f} %" if is_fraction(name) else f"{value:.3g}"


def with_interval(name: str, estimate: EstimateRecord | None) -> str:
    """A number with its interval, such as '87.5 % [80.1, 92.4]'; where that is over images, the one over people too.

    Where there are several judges or priors, its spread over them: '87.5 % [80.1, 92.4], judges ± 3.1'.
    """
    if estimate is None:
        return MISSING
    people = f", people {_ends(name, estimate['people'])}" if "people" in estimate else ""
    return f"{number(name, float(estimate['value']))} {_ends(name, estimate)}{people}{_spreads(name, estimate)}"


def _ends(name: str, interval: Mapping[str, Any]) -> str:
    low, high = (number(name, float(interval[bound])).removesuffix(" %") for bound in ("low", "high"))
    return f"[{low}, {high}]"


def _spreads(name: str, spreads: Mapping[str, Any]) -> str:
    """Standard deviations over judges and priors, such as ', judges ± 3.1'; empty where there is one of each."""
    return "".join(
        f", {spread.removesuffix('_sd')} ± {number(name, spreads[spread]).removesuffix(' %')}"
        for spread in SPREADS
        if spread in spreads
    )


def with_scale(text: str, name: str, scales: Sequence[Scale]) -> str:
    """A number with its floor and ceiling, means over trials, such as '61.0 % (12.0 to 93.1)'."""
    ends = {
        end: [value for scale in scales if (value := getattr(scale, end)) is not None] for end in ("floor", "ceiling")
    }
    if not all(ends.values()):
        return text
    floor, ceiling = (number(name, statistics.fmean(values)).removesuffix(" %") for values in ends.values())
    return f"{text} ({floor} to {ceiling})"


def with_spread(point: PointResult, name: str) -> str:
    """A point's mean and the standard deviation over its training seeds, which no interval holds."""
    if not all(name in trial.estimates() for trial in point.trials):
        return MISSING
    mean, spread = number(name, point.mean(name)), point.spread(name)
    return mean if spread is None else f"{mean} ± {number(name, spread).removesuffix(' %')}"


def with_spread_and_intervals(point: PointResult, name: str) -> str:
    """As `with_spread`, with the spread over judges and priors, and the 95 % intervals of the mean.

    Such as '94.0 % ± 1.4, judges ± 3.1, seeds [81.3, 100.0], total [90.1, 97.9]'.
    """
    text, intervals = with_spread(point, name), intervals_of_mean(point, name)
    if text == MISSING:
        return text
    text += _spreads(name, point.spreads(name))
    if intervals is None:
        return text
    alone, total = (ends and _ends(name, {"low": ends[0], "high": ends[1]}) for ends in intervals)
    return f"{text}, seeds {alone or 'all alike'}, total {total}"


def short_names(result: SweepResult) -> dict[str, str]:
    """A short name for each searched field: the last part of its path, or the whole path where two share that."""
    paths = list(dict.fromkeys(path for trial in result.trials for path in trial.plan.trial.params))
    lasts = [path.rpartition(".")[2] for path in paths]
    return {path: last if lasts.count(last) == 1 else path for path, last in zip(paths, lasts, strict=True)}


def value_text(value: Any) -> str:
    """A searched value as text; a component as its kind with its settings, a list of components joined by +.

    >>> value_text([{"kind": "bido"}, {"kind": "random_erasing", "max_area": 0.8}])
    'bido + random_erasing (max_area 0.8)'
    """
    match value:
        case float():
            return f"{value:.4g}"
        case str():
            return value
        case {"kind": kind, **settings}:
            texts = ", ".join(f"{name} {value_text(setting)}" for name, setting in settings.items())
            return f"{kind} ({texts})" if texts else str(kind)
        case [{"kind": _}, *_]:
            return " + ".join(map(value_text, value))
    return json.dumps(value)


def trial_label(trial: TrialResult, names: Mapping[str, str]) -> str:
    """The searched values of a trial, such as 'max_area 0.5, max_aspect 3', or its defenses where none is searched."""
    if trial.plan.trial.baseline:
        return "no defense"
    values = ", ".join(f"{names[path]} {value_text(value)}" for path, value in trial.plan.trial.params.items())
    return values or " + ".join(trial.plan.defenses) or "no defense"


def point_label(point: PointResult, names: Mapping[str, str]) -> str:
    """The label that all trials of a point share."""
    return trial_label(point.trials[0], names)


def attack_label(label: str, trial: TrialResult, names: Mapping[str, str]) -> str:
    """An attack on a trial, such as 'gmi on trial 3f9a: max_area 0.5, seed 0'."""
    return f"{label} on trial {trial.id}: {trial_label(trial, names)}, seed {trial.plan.trial.seed}"


def trial_rows(result: SweepResult, metrics: Sequence[str] | None = None) -> Rows:
    """One row per trial, failed ones too; with all numbers, or those of `metrics`."""
    names, best = short_names(result), set(result.pareto())
    metrics = metric_names(result) if metrics is None else metrics
    rows = []
    for trial in result.trials:
        estimates = trial.estimates()
        numbers = [
            with_scale(with_interval(name, estimates.get(name)), name, [result.scale(trial, name)]) for name in metrics
        ]
        stage = _stage(result, trial.plan.trial.stage)
        head = (trial.id, *stage, *_params(trial, names), str(trial.plan.trial.seed), trial.status)
        rows.append(Row((STAR if trial.id in best else "", *head, *numbers), trial.id in best))
    headers = ("", "trial", *_stage(result, "stage"), *_param_headers(names), "seed", "status")
    return Rows((*headers, *map(in_words, metrics)), tuple(rows))


def attack_rows(result: SweepResult) -> Rows:
    """One row per attack on a finished trial: its numbers with intervals, its queries and seconds."""
    names = short_names(result)
    attacks = [(trial, attack) for trial in result.finished for attack in trial.attacks.values()]
    metrics = dict.fromkeys(name for _, attack in attacks for name in attack.estimates)
    rows = []
    for trial, attack in attacks:
        numbers = [
            with_scale(
                with_interval(name, attack.estimates.get(name)), name, [result.scale(trial, f"{attack.label}.{name}")]
            )
            for name in metrics
        ]
        stage = _stage(result, trial.plan.trial.stage)
        head = ("", attack.label, str(attack.protocol["access"]), *stage, *_params(trial, names))
        cost = (f"{attack.queries:,}", f"{attack.seconds:.0f}")
        rows.append(Row((*head, str(trial.plan.trial.seed), *numbers, *cost), False))
    headers = ("", "attack", "access", *_stage(result, "stage"), *_param_headers(names), "seed")
    return Rows((*headers, *map(in_words, metrics), "queries", "seconds"), tuple(rows))


def point_rows(result: SweepResult, metrics: Sequence[str] | None = None, *, intervals: bool = False) -> Rows:
    """One row per point whose trials are all done; with all numbers, or those of `metrics`, and their intervals.

    Points that were confirmed have a row of the search and one of the confirmation, which is the one that counts.
    """
    text = with_spread_and_intervals if intervals else with_spread
    names, best = short_names(result), frontier_points(result)
    metrics = metric_names(result) if metrics is None else metrics
    trades = {stage: trade_offs(result, stage) for stage in _stages(result)}
    has_trades = any(trades.values())
    rows = []
    for point in (point for stage in trades for point in result.points(stage)):
        numbers = [
            with_scale(text(point, name), name, [result.scale(trial, name) for trial in point.trials])
            for name in metrics
        ]
        if has_trades:
            numbers.append(str(trades[point.stage].get(point.point, "-")))
        head = (str(point.point), *_stage(result, point.stage), *_params(point.trials[0], names))
        is_best = point.point in best and point.stage == result.stage
        rows.append(Row((STAR if is_best else "", *head, str(len(point.trials)), *numbers), is_best))
    headers = ["", "point", *_stage(result, "stage"), *_param_headers(names), "seeds", *map(in_words, metrics)]
    return Rows((*headers, "trade-off") if has_trades else tuple(headers), tuple(rows))


def _stages(result: SweepResult) -> list[Stage]:
    """The stages that the sweep has, in their order."""
    return list(dict.fromkeys(trial.plan.trial.stage for trial in result.trials)) or ["search"]


def _stage(result: SweepResult, cell: str) -> tuple[str, ...]:
    """A cell of the column of stages, which only a sweep with several has."""
    return (cell,) if len(_stages(result)) > 1 else ()


def optimism_rows(result: SweepResult) -> Rows:
    """One row per objective of each confirmed point: its gain when it was picked, and when it was confirmed."""
    names = short_names(result)
    rows = []
    for change in optimism(result):
        interval = _ends(change.number, {"low": change.low, "high": change.high}) if change.low is not None else ""
        gains = (number(change.number, gain) for gain in (change.searched, change.confirmed, change.optimism))
        picked, confirmed, difference = gains
        values = [value_text(change.params[path]) if path in change.params else "-" for path in names]
        cells = ("", str(change.point), *values, in_words(change.number), picked, confirmed)
        rows.append(Row((*cells, f"{difference} {interval}".strip()), False))
    headers = ("", "point", *names.values(), "number", "gain in the search", "gain confirmed", "optimism")
    return Rows(headers, tuple(rows))


def trade_offs(result: SweepResult, stage: Stage | None = None) -> dict[int, TradeOff]:
    """The trade-off of each defended point against no defense; none unless both axes are accuracies.

    `stage` is the stage whose numbers are taken; by default that which counts.
    """
    utility, leakage = axes(result)
    names = utility.metric, leakage.metric
    points = result.points(stage)
    baseline = next((point for point in points if point.baseline), None)
    if baseline is None or not all(map(is_fraction, names)) or (utility.goal, leakage.goal) != ("max", "min"):
        return {}
    lost = {point for point, change in against_baseline(points, names[0]).items() if change.sign < 0}
    return {
        point.point: trade_off(point, baseline, utility=names[0], attack=names[1], surely_lost=point.point in lost)
        for point in points
        if not point.baseline
    }


def _params(trial: TrialResult, names: Mapping[str, str]) -> list[str]:
    """One cell per searched field; the baseline, which has no values of them, says so in the first."""
    params = trial.plan.trial.params
    cells = [value_text(params[path]) if path in params else "-" for path in names]
    if not cells:
        return [" + ".join(trial.plan.defenses) or "no defense"]
    return ["no defense", *cells[1:]] if trial.plan.trial.baseline else cells


def _param_headers(names: Mapping[str, str]) -> list[str]:
    """Short names of the searched fields, or one column for the defense where none is searched."""
    return list(names.values()) or ["defense"]


def trials_table(result: SweepResult) -> Table:
    """Every trial with its numbers and their 95 % intervals."""
    shown, rest = few_names(result)
    note = f"{STAR} beaten by no other point's means; 95 % intervals in brackets{_ABOUT_SCALES}{rest}"
    return _table(f"Trials of {result.resolved.sweep}", note, trial_rows(result, shown))


def points_table(result: SweepResult) -> Table:
    """Every finished point: means over seeds ± standard deviation over seeds."""
    shown, rest = few_names(result)
    spreads = "mean ± standard deviation over training seeds, a ratio ± its standard error"
    note = f"{STAR} beaten by no other point's means; {spreads}{_ABOUT_SCALES}{rest}"
    return _table(f"Points of {result.resolved.sweep}", note, point_rows(result, shown))


def optimism_table(result: SweepResult) -> Table:
    """What the search promised of each confirmed point, and what was left of it."""
    note = "gains over no defense; optimism: how much the first was too good, 95 % intervals in brackets"
    return _table(f"Confirmed points of {result.resolved.sweep}", note, optimism_rows(result))


def attacks_table(result: SweepResult) -> Table:
    """Every attack on every finished trial."""
    return _table(
        f"Attacks of {result.resolved.sweep}", f"95 % intervals in brackets{_ABOUT_SCALES}", attack_rows(result)
    )


def comparison_table(rows: Sequence[Comparison], *, title: str) -> Table:
    """Every number of a rerun beside the old one."""
    table = Table("trial", "number", "then", "95 % interval", "now", "verdict", title=title)
    for row in rows:
        interval = f"[{row.then['low']:.4g}, {row.then['high']:.4g}]"
        now = MISSING if row.now is None else f"{row.now['value']:.6g}"
        table.add_row(row.trial, row.name, f"{row.then['value']:.6g}", interval, now, row.verdict)
    return table


def _table(title: str, note: str, rows: Rows) -> Table:
    table = Table(title=Text(title), caption=Text(note))
    for header in rows.headers:
        table.add_column(Text(header), overflow="fold")
    for row in rows.rows:
        table.add_row(*map(Text, row.cells), style="bold" if row.on_frontier else None)
    return table


def joined(values: Sequence[Any]) -> str:
    """The distinct values, separated by commas, or 'missing' where there is none."""
    distinct = dict.fromkeys(str(value) for value in values if value is not None)
    return ", ".join(distinct) or MISSING
