"""The numbers of one attack over what was drawn several times: its priors, and the evaluation models that judge it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.search.units import FRACTION, unit_of
from orchestrator.statistics.over_seeds import total_interval
from workloads.core.words import counted

EstimateRecord = Mapping[str, Any]
"""A number with its interval: value, low, high, n, method and perhaps people, as `workloads.metrics.intervals.Estimate`
has them; and, where there are several judges or priors, `judges_sd` and `priors_sd`, its spread over them."""

SPREADS = ("judges_sd", "priors_sd")
"""Names of a number's standard deviations over judges and over priors."""

Ends = tuple[float, float]
"""Lower and upper end of an interval."""


@dataclass(frozen=True)
class Draw:
    """What one evaluation model says of an attack with one fit of its prior."""

    prior: int
    """Seed of the attack's priors and surrogates."""
    judge: int
    """Seed of the evaluation model."""
    estimates: Mapping[str, EstimateRecord]
    identities: Sequence[Mapping[str, Any]]
    """The numbers of each identity by itself: `identity`, `reconstructions`, and `estimates` by name."""


@dataclass(frozen=True)
class UnitValues:
    """A number of single people or images, with every draw."""

    units: tuple[str, ...]
    """Names of the people, or positions of the images."""
    priors: tuple[int, ...]
    judges: tuple[int, ...]
    values: NDArray[np.float64]
    """Shape: (priors, judges, units)."""


def unit_values(draws: Sequence[Draw], name: str) -> UnitValues | None:
    """The values of each person with every draw; None if the number has none of single people."""
    priors, judges = (tuple(dict.fromkeys(seeds)) for seeds in zip(*((d.prior, d.judge) for d in draws), strict=True))
    by_draw = {(draw.prior, draw.judge): _by_person(draw, name) for draw in draws}
    units = tuple(next(iter(by_draw.values())))
    if not units or any(tuple(values) != units for values in by_draw.values()):
        return None
    rows = [[list(by_draw[prior, judge].values()) for judge in judges] for prior in priors]
    return UnitValues(units, priors, judges, np.array(rows, dtype=np.float64))


def pooled_estimates(draws: Sequence[Draw]) -> dict[str, EstimateRecord]:
    """Each number as its mean over the draws, with an interval that holds people, priors and judges together."""
    if len(draws) == 1:
        return dict(draws[0].estimates)
    return {name: _pooled(draws, name) for name in draws[0].estimates}


def pooled_identities(draws: Sequence[Draw]) -> list[dict[str, Any]]:
    """The numbers of each identity: means of its values, and of the ends of its intervals, over the draws."""
    records = []
    for together in zip(*(draw.identities for draw in draws), strict=True):
        estimates = {
            name: {**together[0]["estimates"][name], **_means([record["estimates"][name] for record in together])}
            for name in together[0]["estimates"]
        }
        records.append({**together[0], "estimates": estimates})
    return records


def spreads(draws: Sequence[Draw], name: str) -> dict[str, float]:
    """Standard deviations of a number over seeds of judges and of priors, where several, all else averaged.

    They say what another draw would give, as the spread over training seeds does; `total_interval` holds them already.
    """
    by_kind = {f"{kind}s_sd": _spread_over(draws, name, kind) for kind in ("judge", "prior")}
    return {kind: spread for kind, spread in by_kind.items() if spread is not None}


def _spread_over(draws: Sequence[Draw], name: str, kind: str) -> float | None:
    by_seed: dict[int, list[float]] = {}
    for draw in draws:
        by_seed.setdefault(getattr(draw, kind), []).append(float(draw.estimates[name]["value"]))
    return statistics.stdev(map(statistics.fmean, by_seed.values())) if len(by_seed) > 1 else None


def within_bounds(name: str, ends: Ends) -> Ends:
    """The part of an interval that a number can lie in."""
    return (max(ends[0], 0.0), min(ends[1], 1.0)) if unit_of(name) == FRACTION else ends


def _pooled(draws: Sequence[Draw], name: str) -> EstimateRecord:
    """The mean of a number, with the total interval, never narrower than the mean interval of one draw.

    t over few draws, or with values at 0 or 1, can be narrower than people alone allow.
    """
    records = [draw.estimates[name] for draw in draws]
    means = _means(records)
    of_people = unit_values(draws, name)
    if of_people is not None:
        low, high = total_interval(of_people.values)
    else:
        priors, judges = (len({getattr(draw, kind) for draw in draws}) for kind in ("prior", "judge"))
        low, high = total_interval(np.array([record["value"] for record in records]).reshape(priors, judges))
    low, high = within_bounds(name, (min(low, means["low"]), max(high, means["high"])))
    pooled = {**records[0], **means, "low": low, "high": high, "method": f"{records[0]['method']}; {_drawn(draws)}"}
    if "people" in pooled:
        pooled["people"] = {**pooled["people"], **_means([record["people"] for record in records], ("low", "high"))}
    return pooled | spreads(draws, name)


def _drawn(draws: Sequence[Draw]) -> str:
    """How often everything was drawn, for the method of an interval."""
    priors, judges = (len({getattr(draw, kind) for draw in draws}) for kind in ("prior", "judge"))
    parts = [counted(count, noun) for count, noun in ((priors, "prior{s}"), (judges, "judge{s}")) if count > 1]
    return f"with {' and '.join(parts)} by Student's t"


def _means(records: Sequence[EstimateRecord], parts: Sequence[str] = ("value", "low", "high")) -> dict[str, float]:
    return {part: statistics.fmean(float(record[part]) for record in records) for part in parts}


def _by_person(draw: Draw, name: str) -> dict[str, float]:
    return {
        str(record["identity"]): float(record["estimates"][name]["value"])
        for record in draw.identities
        if name in record["estimates"]
    }
