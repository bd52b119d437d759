"""The report: one HTML file that holds its pictures and needs nothing from anywhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from orchestrator.reports.feature_space import feature_spaces
from orchestrator.reports.figures import frontier_figure, heat_maps
from orchestrator.reports.findings import findings
from orchestrator.reports.tables import (
    MISSING,
    Rows,
    attack_label,
    attack_rows,
    in_words,
    joined,
    optimism_rows,
    point_rows,
    short_names,
    trial_label,
    trial_rows,
    with_interval,
)
from orchestrator.results.cost import NOTHING, Cost
from orchestrator.results.numerics import numerics_rows, remarks
from orchestrator.results.sweep_result import AttackResult, SweepResult, kept_changes
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.paths import RunPaths
from workloads.core.files import write_atomically

TEMPLATE = Path(__file__).with_name("report.html")

_PROTOCOL = ("access", "steps", "restarts", "kept", "selection", "people", "queries")
_IN_FULL = {"people": "identities attacked", "kept": "kept per identity", "restarts": "restarts per identity"}


@dataclass(frozen=True)
class Picture:
    """A PNG as a data URI, with its caption."""

    data: str
    caption: str


@dataclass(frozen=True)
class DefenseFacts:
    """What one defense of one trial did to the training images."""

    caption: str
    mean_erased_area: str
    unerased_share: str
    map: Picture | None


def write_report(result: SweepResult, store: ArtifactStore, paths: RunPaths, *, cost: Cost = NOTHING) -> None:
    """Write the report and the frontier as a picture of its own; `cost` is that of all runs of the sweep.

    Raises:
        DamagedArtifact: if an artifact it shows is not what its manifest says.
    """
    frontier = _png(frontier_figure(result))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(**_content(result, store, frontier), cost=str(cost) if cost.jobs else "")
    write_atomically(paths.frontier, frontier)
    write_atomically(paths.report, page.encode())


def _content(result: SweepResult, store: ArtifactStore, frontier: bytes) -> dict[str, Any]:
    spec, maps = result.resolved.spec, heat_maps(result)
    return {
        "sweep": result.resolved.sweep,
        "description": spec.description,
        "headlines": findings(result),
        "frontier": Picture(_uri(frontier), "The trade between the objectives"),
        "heat_maps": Picture(_uri(_png(maps)), "Both objectives over the searched fields") if maps else None,
        "tables": _tables(result),
        "judges": [
            (seed, in_words(name), with_interval(name, estimate))
            for seed, estimates in result.judges.items()
            for name, estimate in estimates.items()
        ],
        "pairs": list(_pairs(result, store)),
        "feature_spaces": [Picture(_uri(_png(figure)), caption) for caption, figure in feature_spaces(result, store)],
        "defenses": list(_defenses(result, store)),
        "samples": list(_samples(result, store)),
        "attack_names": [attack.label for attack in spec.attacks],
        "notes": result.resolved.notes,
        "protocol": _protocol(result),
        "remarks": [*remarks(result.numerics), *kept_changes(result)],
        "failed": [(trial, trial_label(trial, short_names(result))) for trial in result.trials if trial.error],
        "spec": yaml.safe_dump(spec.plain(), sort_keys=False, allow_unicode=True, width=110),
    }


def _tables(result: SweepResult) -> list[tuple[str, str, Rows]]:
    points = (
        "Mean over training seeds ± standard deviation over seeds, of points with all trials done; behind 'judges' and "
        "'priors' the standard deviation over those, where there are several. Of the two 95 % "
        "intervals of the mean, the first holds what training varies for these people and images, the second all that "
        "was drawn: people attacked or held-out images, priors and judges as well. In parentheses stand what an attack "
        "has to beat, samples of its prior that nothing improved or public images, and what real images of the people "
        "attacked reach. A ratio ± its standard error over seeds, which a single seed has not."
    )
    trials = "One training seed each, with 95 % intervals in brackets, which hold what judges and priors differ in."
    tables = [("Points", points, point_rows(result, intervals=True)), ("Trials", trials, trial_rows(result))]
    attacks = "One attack on one trial each, with 95 % intervals in brackets and what it cost."
    if result.stage == "confirm":
        confirmed = (
            "How much better than no defense each confirmed point was in the search that picked it, and with other "
            "training seeds, judges and priors. Optimism is the difference, with its 95 % interval."
        )
        tables.insert(0, ("Confirmed", confirmed, optimism_rows(result)))
    return [*tables, ("Attacks", attacks, attack_rows(result))] if len(result.resolved.spec.attacks) > 1 else tables


def _pairs(result: SweepResult, store: ArtifactStore) -> Iterator[tuple[str, Picture | None]]:
    """One grid per finished trial and attack; None where the artifact has none."""
    names = short_names(result)
    for trial in result.finished:
        for label, attack in trial.attacks.items():
            accuracy = with_interval("attack_accuracy", attack.estimates.get("attack_accuracy"))
            full = f"{attack_label(label, trial, names)}, attack accuracy {accuracy}"
            yield full, _picture(store, trial.plan.keys.attacks[label].first.judged[0], "pairs.png", full)


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
            for label, member in ((label, member) for draw in attack.draws for label, member in draw.members.items()):
                if member.prior is not None and label not in users.setdefault(member.prior, []):
                    users[member.prior].append(label)
    for key, labels in users.items():
        if picture := _picture(store, key, "samples.png", f"Samples of the prior of {joined(labels)}, {key[:12]}"):
            yield picture


def _protocol(result: SweepResult) -> list[tuple[str, list[str]]]:
    """Rows of the protocol table, one cell per attack."""
    attacks = [_results_of(result, attack.label) for attack in result.resolved.spec.attacks]
    rows = [
        (_IN_FULL.get(name, name), [joined([attack.protocol.get(name) for attack in group]) for group in attacks])
        for name in _PROTOCOL
    ]
    rows.append(("seconds per attack", [joined(_range([attack.seconds for attack in group])) for group in attacks]))
    rows.append(("intervals, 95 %", [_methods([attack.estimates for attack in group]) for group in attacks]))
    seeds = joined([trial.plan.trial.seed for trial in result.trials])
    utility = [trial.utility for trial in result.finished]
    rows.append(("training seeds", [seeds] * len(attacks)))
    held_out = [estimates["natural_accuracy"]["n"] for estimates in utility if "natural_accuracy" in estimates]
    rows.append(("held-out images", [joined(held_out)] * len(attacks)))
    rows.append(("intervals on held-out images, 95 %", [_methods(utility)] * len(attacks)))
    rows += [(name, [joined(values)] * len(attacks)) for name, values in numerics_rows(result.numerics)]
    return rows


def _results_of(result: SweepResult, label: str) -> list[AttackResult]:
    return [trial.attacks[label] for trial in result.finished if label in trial.attacks]


def _range(seconds: list[float]) -> list[str]:
    if not seconds:
        return []
    low, high = min(seconds), max(seconds)
    return [f"{low:.1f}" if low == high else f"{low:.1f} to {high:.1f}"]


def _methods(groups: list[Mapping[str, Mapping[str, Any]]]) -> str:
    """How each number's interval was made, such as 'attack accuracy: bootstrap over identities', once each."""
    return joined([f"{in_words(name)}: {estimate['method']}" for group in groups for name, estimate in group.items()])


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
