"""Result tables as Parquet: a row per trial, per attack on it, and per identity attacked. They can be made anew."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from orchestrator.results.numerics import JobNumerics, numerics_rows
from orchestrator.results.pooling import SPREADS, EstimateRecord
from orchestrator.results.sweep_result import AttackResult, SweepResult, TrialResult
from orchestrator.search.units import unit_of
from orchestrator.store.paths import RunPaths
from workloads.core.files import replace_when_written

Row = dict[str, Any]

SCHEMA_VERSION = 2
"""Version of the tables' columns, raised when one changes its meaning; each table's metadata holds it."""
_BOUNDS = ("low", "high", "n", "method")
PEOPLE = "_people"
"""Ends the name of a number in the columns of its interval over people, where the other one is over images."""
_TYPES = {
    "point": pa.int64(),
    "seed": pa.int64(),
    "baseline": pa.bool_(),
    "defenses": pa.list_(pa.string()),
    "steps": pa.int64(),
    "restarts": pa.int64(),
    "kept": pa.int64(),
    "identities_attacked": pa.int64(),
    "queries": pa.int64(),
    "reconstructions": pa.int64(),
    "seconds_s": pa.float64(),
    "deterministic": pa.bool_(),
}
"""Types of fixed columns, so that a table without rows has them too; the other fixed columns are text."""

_NUMERICS = ("threads", "device", "torch", "precision")
_TRIAL = ("sweep", "trial", "point", "stage", "seed", "baseline", "status", "error", "defenses", "params")
_MADE = (*_TRIAL, *_NUMERICS, "deterministic")
_PROTOCOL = ("access", "steps", "restarts", "kept", "selection", "identities_attacked", "queries", "seconds_s")


def write_tables(result: SweepResult, paths: RunPaths) -> None:
    """Write the Parquet tables 'trials', 'attacks' and 'identities', each as a whole, so that nobody reads a part."""
    for name, table in tables(result).items():
        with replace_when_written(paths.table(name)) as temporary:
            parquet.write_table(table, temporary)


def tables(result: SweepResult) -> dict[str, pa.Table]:
    """The tables 'trials', 'attacks' and 'identities'; missing values are null.

    Every trial has a row in 'trials'; the other two tables hold finished trials only.
    """
    attacked = [(trial, attack) for trial in result.trials for attack in trial.attacks.values()]
    trials = [_trial_row(result, trial) | _estimates(trial.utility) for trial in result.trials]
    attacks = [
        _attack_row(result, trial, attack) | _estimates(attack.estimates) | _scales(result, attack)
        for trial, attack in attacked
    ]
    identities = [
        _attack_row(result, trial, attack) | _identity(record) | _estimates(record["estimates"])
        for trial, attack in attacked
        for record in attack.identities
    ]
    by_name = {
        "trials": _table(trials, _MADE),
        "attacks": _table(attacks, (*_MADE, "attack", *_PROTOCOL)),
        "identities": _table(identities, (*_MADE, "attack", *_PROTOCOL, "identity", "reconstructions")),
    }
    about = {"sweep": result.resolved.sweep, "schema_version": str(SCHEMA_VERSION)}
    return {name: table.replace_schema_metadata(about) for name, table in by_name.items()}


def _trial_row(result: SweepResult, trial: TrialResult) -> Row:
    planned = trial.plan.trial
    return {
        "sweep": result.resolved.sweep,
        "trial": trial.id,
        "point": planned.point,
        "stage": planned.stage,
        "seed": planned.seed,
        "baseline": planned.baseline,
        "status": trial.status,
        "error": trial.error or None,
        "defenses": list(trial.plan.defenses),
        "params": json.dumps(dict(planned.params), sort_keys=True),
        **_numerics(trial.numerics),
        **{f"param.{path}": planned.params.get(path) for path in _searched(result)},
    }


def _numerics(jobs: Sequence[JobNumerics]) -> Row:
    """How the jobs of a trial computed: distinct values joined by commas, and whether all were deterministic."""
    if not jobs:
        return {}
    answers = [job.deterministic for job in jobs if job.deterministic is not None]
    row: Row = {name: ", ".join(values) for name, values in numerics_rows(jobs) if name in _NUMERICS}
    return row | {"deterministic": all(answers) if len(answers) == len(jobs) else None}


def _searched(result: SweepResult) -> list[str]:
    """Dotted paths of all searched fields, in the order in which trials name them."""
    return list(dict.fromkeys(path for trial in result.trials for path in trial.plan.trial.params))


def _attack_row(result: SweepResult, trial: TrialResult, attack: AttackResult) -> Row:
    protocol = dict(attack.protocol) | {
        "identities_attacked": attack.protocol.get("identities"),
        "seconds_s": attack.seconds,
    }
    return _trial_row(result, trial) | {"attack": attack.label} | {name: protocol.get(name) for name in _PROTOCOL}


def _identity(record: Mapping[str, Any]) -> Row:
    return {"identity": str(record["identity"]), "reconstructions": record.get("reconstructions")}


def _estimates(estimates: Mapping[str, EstimateRecord]) -> Row:
    row: Row = {}
    for name, estimate in estimates.items():
        row[name] = estimate["value"]
        row |= {f"{name}_{bound}": estimate[bound] for bound in _BOUNDS}
        row |= {f"{name}{PEOPLE}_{bound}": value for bound, value in estimate.get("people", {}).items()}
        row |= {f"{name}_{spread}": estimate[spread] for spread in SPREADS if spread in estimate}
    return row


def _scales(result: SweepResult, attack: AttackResult) -> Row:
    """Floor and ceiling of each number of an attack."""
    row: Row = {}
    for name in attack.estimates:
        if sign := result.leak_signs.get(name):
            row |= {f"{name}_{end}": value for end, value in attack.scale(name, sign).shape().items()}
    return row


def _table(rows: Sequence[Row], fixed: Iterable[str]) -> pa.Table:
    """A table with these columns first, and all others that a row has."""
    names = list(dict.fromkeys([*fixed, *(name for row in rows for name in row)]))
    fields, columns = [], []
    for name in names:
        values = [row.get(name) for row in rows]
        kind, values = _typed(name, values)
        unit = _unit(name)
        fields.append(pa.field(name, kind, metadata={"unit": unit} if unit else None))
        columns.append(pa.array(values, kind))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _typed(name: str, values: list[Any]) -> tuple[Any, list[Any]]:
    """The Arrow type of a column and its values; those of a searched field that share no type become JSON."""
    if name.startswith("param."):
        return _param(values)
    metric, _, bound = name.rpartition("_")
    if name in _TYPES:
        return _TYPES[name], values
    if metric and bound == "n":
        return pa.int64(), values
    is_number = unit_of(name) or unit_of(metric) or any(isinstance(value, float) for value in values)
    return (pa.float64() if is_number and bound != "method" else pa.string()), values


def _param(values: list[Any]) -> tuple[Any, list[Any]]:
    kinds = {type(value) for value in values if value is not None}
    for accepted, kind in (
        ({bool}, pa.bool_()),
        ({int}, pa.int64()),
        ({int, float}, pa.float64()),
        ({str}, pa.string()),
    ):
        if kinds <= accepted:
            return kind, values
    return pa.string(), [None if value is None else json.dumps(value) for value in values]


def _unit(name: str) -> str | None:
    """The unit of a column: that of its number, of the two ends of its interval, and of its spreads."""
    if name in _TYPES:
        return "s" if name.endswith("_s") else None
    for spread in SPREADS:
        name = name.removesuffix(f"_{spread}")
    metric, _, bound = name.rpartition("_")
    return unit_of(metric.removesuffix(PEOPLE) if bound in ("low", "high") else name)
