"""The report: one HTML file that holds its pictures and needs nothing from anywhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from orchestrator.reports.feature_space import feature_spaces
from orchestrator.reports.figures import frontier_figure, heat_maps
from orchestrator.reports.tables import (
    MISSING,
    Rows,
    attack_label,
    attack_rows,
    axes,
    frontier_points,
    in_words,
    is_fraction,
    joined,
    mean_interval,
    number,
    point_label,
    point_rows,
    short_names,
    trial_label,
    trial_rows,
    with_interval,
    with_spread,
)
from orchestrator.results.sweep_result import AttackResult, PointResult, SweepResult
from orchestrator.search.pareto import hypervolume
from orchestrator.spec.search_space import Objective
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.paths import RunPaths
from workloads.core.files import write_atomically

TEMPLATE = Path(__file__).with_name("report.html")

_PROTOCOL = ("access", "steps", "restarts", "kept", "selection", "identities", "queries")
_IN_FULL = {"identities": "identities attacked", "kept": "kept per identity", "restarts": "restarts per identity"}


@dataclass(frozen=True)
class Picture:
    """A PNG as a data URI with what it shows."""

    data: str
    caption: str


@dataclass(frozen=True)
class DefenseFacts:
    """What one defense of one trial really did."""

    caption: str
    mean_erased_area: str
    unerased_share: str
    map: Picture | None


def write_report(result: SweepResult, store: ArtifactStore, paths: RunPaths) -> None:
    """Write the report and the frontier as a picture of its own.

    Raises:
        DamagedArtifact: if an artifact it shows is not what its manifest says.
    """
    frontier = _png(frontier_figure(result))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(**_content(result, store, frontier))
    write_atomically(paths.frontier, frontier)
    write_atomically(paths.report, page.encode())


def _content(result: SweepResult, store: ArtifactStore, frontier: bytes) -> dict[str, Any]:
    spec, maps = result.resolved.spec, heat_maps(result)
    return {
        "sweep": result.resolved.sweep,
        "description": spec.description,
        "headlines": headlines(result),
        "frontier": Picture(_uri(frontier), "The trade between the objectives"),
        "heat_maps": Picture(_uri(_png(maps)), "Both objectives over the searched fields") if maps else None,
        "tables": _tables(result),
        "judge": [(in_words(name), with_interval(name, own)) for name, own in result.judge.items()],
        "pairs": list(_pairs(result, store)),
        "feature_spaces": [Picture(_uri(_png(own)), caption) for caption, own in feature_spaces(result, store)],
        "defenses": list(_defenses(result, store)),
        "samples": list(_samples(result, store)),
        "attack_names": [attack.label for attack in spec.attacks],
        "protocol": _protocol(result),
        "failed": [(trial, trial_label(trial, short_names(result))) for trial in result.trials if trial.error],
        "spec": yaml.safe_dump(spec.plain(), sort_keys=False, allow_unicode=True, width=110),
    }


def _tables(result: SweepResult) -> list[tuple[str, str, Rows]]:
    points = "Mean over training seeds ± standard deviation over seeds, of points with all trials done."
    points += " A ratio ± its standard error over training seeds, which a single seed does not have."
    trials = "One training seed each, with 95 % intervals in brackets."
    tables = [("Points", points, point_rows(result)), ("Trials", trials, trial_rows(result))]
    attacks = "One attack on one trial each, with 95 % intervals in brackets and what it cost."
    return [*tables, ("Attacks", attacks, attack_rows(result))] if len(result.resolved.spec.attacks) > 1 else tables


def headlines(result: SweepResult) -> list[str]:
    """What the sweep shows in sentences, and what it does not show."""
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
    texts = []
    for point in (point for point in points if point.point in best):
        numbers = ", ".join(f"{in_words(own.metric)} {with_spread(point, own.metric)}" for own in objectives)
        texts.append(f"{point_label(point, names)} ({numbers})")
    yield f"On the frontier, {len(texts)} of {len(points)} points: {'; '.join(texts)}."
    yield from _dominated_area(points, objectives)


def _dominated_area(points: Sequence[PointResult], objectives: Sequence[Objective]) -> Iterator[str]:
    """The frontier as one number, where both objectives are fractions."""
    if len(objectives) != 2 or not all(is_fraction(own.metric) for own in objectives):
        return
    worst = [0.0 if own.goal == "max" else 1.0 for own in objectives]

    def area(chosen: Sequence[PointResult]) -> float:
        values = [[point.mean(own.metric) for own in objectives] for point in chosen]
        return hypervolume(values, reference=worst, objectives=objectives)

    undefended = [point for point in points if point.baseline]
    alone = f", no defense alone {area(undefended):.3f}" if undefended else ""
    yield f"Of all outcomes, from the worst to the best, the frontier is better than {area(points):.3f}{alone}."


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
        yield _verdict(best, baseline, x, y)
        yield from _strongest(best, baseline, y)


def _has(point: PointResult, *objectives: Objective) -> bool:
    return all(objective.metric in trial.estimates() for objective in objectives for trial in point.trials)


def _gain(point: PointResult, baseline: PointResult, objective: Objective) -> float:
    """How much better than the baseline, in the objective's own unit; negative where worse."""
    sign = 1 if objective.goal == "max" else -1
    return sign * (point.mean(objective.metric) - baseline.mean(objective.metric))


def _merit(point: PointResult, baseline: PointResult, x: Objective, y: Objective) -> tuple[float, float]:
    """Sum of both gains where they share a unit, the second gain first where they do not."""
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


def _verdict(best: PointResult, baseline: PointResult, x: Objective, y: Objective) -> str:
    """Whether the defense helps, never said more firmly than the intervals allow."""
    if _gain(best, baseline, y) <= 0:
        return f"It does not help: {in_words(y.metric)} is no better than without defense."
    if _overlap(best, baseline, y.metric):
        return (
            f"The intervals of {in_words(y.metric)} overlap, with and without the defense: "
            "this sweep does not show that it helps."
        )
    helps = f"The intervals of {in_words(y.metric)} do not overlap: in this sweep it helps"
    if _gain(best, baseline, x) >= 0:
        return f"{helps}, and costs no {in_words(x.metric)}."
    unsure = ", though the intervals of that overlap" if _overlap(best, baseline, x.metric) else ""
    return f"{helps}, and is paid for in {in_words(x.metric)}{unsure}."


def _strongest(best: PointResult, baseline: PointResult, y: Objective) -> Iterator[str]:
    """What becomes of the attack that gets most out of the defended point, where the sweep trades against another."""
    label, _, metric = y.metric.partition(".")
    sign = 1 if y.goal == "min" else -1
    names = [own for own in best.trials[0].estimates() if own.partition(".")[2] == metric]
    strongest = max(names, key=lambda own: sign * best.mean(own))
    if not metric or sign * best.mean(strongest) <= sign * best.mean(y.metric):
        return
    unsure = ", and the intervals overlap" if _overlap(best, baseline, strongest) else ""
    yield f"{label} is not the strongest attack on it: {_change(best, baseline, strongest)}{unsure}."


def _overlap(one: PointResult, other: PointResult, name: str) -> bool:
    (low, high), (other_low, other_high) = mean_interval(one, name), mean_interval(other, name)
    return low <= other_high and other_low <= high


def _caveats(result: SweepResult) -> Iterator[str]:
    points = result.points()
    if len(points) > 2:
        yield "The best of several points was picked by the very numbers shown, which flatters it."
    if points and max(len(point.trials) for point in points) == 1:
        yield "There is one training seed: how much another would change the numbers is not known."


def _pairs(result: SweepResult, store: ArtifactStore) -> Iterator[tuple[str, Picture | None]]:
    """One grid a finished trial and attack, None where the artifact has none."""
    names = short_names(result)
    for trial in result.finished:
        for label, attack in trial.attacks.items():
            accuracy = with_interval("attack_accuracy", attack.estimates.get("attack_accuracy"))
            full = f"{attack_label(label, trial, names)}, attack accuracy {accuracy}"
            yield full, _picture(store, trial.plan.keys.attacks[label].judged, "pairs.png", full)


def _picture(store: ArtifactStore, key: str, name: str, caption: str) -> Picture | None:
    """A picture that a job left, None where it left none."""
    manifest = store.manifest(key)
    if manifest is None or name not in manifest.files:
        return None
    return Picture(_uri((store.open(key) / name).read_bytes()), caption)


def _defenses(result: SweepResult, store: ArtifactStore) -> Iterator[DefenseFacts]:
    names = short_names(result)
    for trial in result.finished:
        key = trial.plan.keys.target
        manifest = store.manifest(key)
        if manifest is None or "defenses.json" not in manifest.files:
            continue
        for name, facts in store.read_json(key, "defenses.json").items():
            kind = name.partition(".")[2]
            caption = f"{kind}, trial {trial.id}: {trial_label(trial, names)}, seed {trial.plan.trial.seed}"
            erased_map = _picture(store, key, f"{name}.erased_map.png", caption)
            yield DefenseFacts(caption, _share(facts, "mean_erased_area"), _share(facts, "unerased_share"), erased_map)


def _share(facts: Mapping[str, Any], name: str) -> str:
    return f"{100 * facts[name]:.1f} %" if facts.get(name) is not None else MISSING


def _samples(result: SweepResult, store: ArtifactStore) -> Iterator[Picture]:
    """Samples of every prior that was fitted, once each, with the attacks that use it."""
    users: dict[str, list[str]] = {}
    for trial in result.finished:
        for attack in trial.plan.keys.attacks.values():
            for label, member in attack.members.items():
                if member.prior is not None and label not in users.setdefault(member.prior, []):
                    users[member.prior].append(label)
    for key, labels in users.items():
        if picture := _picture(store, key, "samples.png", f"Samples of the prior of {joined(labels)}, {key[:12]}"):
            yield picture


def _protocol(result: SweepResult) -> list[tuple[str, list[str]]]:
    """Rows of the protocol table, one cell an attack."""
    attacks = [_own(result, label) for label in _labels(result)]
    rows = [
        (_IN_FULL.get(name, name), [joined([own.protocol.get(name) for own in group]) for group in attacks])
        for name in _PROTOCOL
    ]
    rows.append(("seconds per attack", [joined(_range([own.seconds for own in group])) for group in attacks]))
    rows.append(("intervals, 95 %", [_methods([own.estimates for own in group]) for group in attacks]))
    seeds, utility = joined(result.resolved.spec.search.seeds), [trial.utility for trial in result.finished]
    rows.append(("training seeds", [seeds] * len(attacks)))
    held_out = [own["natural_accuracy"]["n"] for own in utility if "natural_accuracy" in own]
    rows.append(("held-out images", [joined(held_out)] * len(attacks)))
    rows.append(("intervals on held-out images, 95 %", [_methods(utility)] * len(attacks)))
    return rows


def _labels(result: SweepResult) -> list[str]:
    return [attack.label for attack in result.resolved.spec.attacks]


def _own(result: SweepResult, label: str) -> list[AttackResult]:
    return [trial.attacks[label] for trial in result.finished if label in trial.attacks]


def _range(seconds: list[float]) -> list[str]:
    if not seconds:
        return []
    low, high = min(seconds), max(seconds)
    return [f"{low:.1f}" if low == high else f"{low:.1f} to {high:.1f}"]


def _methods(estimates: list[Mapping[str, Mapping[str, Any]]]) -> str:
    """'attack accuracy: bootstrap over identities', for each number once."""
    return joined([f"{in_words(name)}: {own['method']}" for one in estimates for name, own in one.items()])


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
