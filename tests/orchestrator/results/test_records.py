"""Parquet tables: read back by pandas and by DuckDB they hold what the records held."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from pyarrow import parquet

from orchestrator.planning.graph import Trial
from orchestrator.planning.plan import plan as plan_trial
from orchestrator.reports.tables import point_rows, with_interval
from orchestrator.results.numerics import JobNumerics
from orchestrator.results.parquet_tables import write_tables
from orchestrator.results.pooling import Draw
from orchestrator.results.summary import summary
from orchestrator.results.sweep_result import AttackResult, SweepResult, TrialResult
from orchestrator.search.units import unit_of
from orchestrator.spec.apply import applied, undefended
from orchestrator.spec.loading import load_spec
from orchestrator.spec.model import ResolvedSpec
from orchestrator.store.paths import RunPaths
from tests.support.paths import ERASING_OF_DIGITS

AREA, ASPECT = "defenses.0.max_area", "defenses.0.max_aspect"


def estimate(value: float, low: float, high: float, n: int, method: str = "wilson") -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n, "method": method}


def attack(value: float) -> AttackResult:
    numbers = {
        "attack_accuracy": estimate(value, value - 0.2, value + 0.1, 5, "bootstrap over identities"),
        "knn_distance": estimate(60.5, 50.25, 70.75, 5, "bootstrap over identities"),
        "fid_swin_s": estimate(12.0, 10.0, 15.0, 5, "bootstrap over identities, 100 resamples"),
        "hull_overlap_private_evaluation": estimate(0.0, 0.0, 0.5, 5, "bootstrap over identities"),
        "knowledge_extraction_test_accuracy": estimate(0.75, 0.5, 0.9, 20),
    }
    protocol = {"steps": 200, "restarts": 10, "kept": 5, "selection": "all", "identities": 5, "queries": 10050}
    identities = [{"identity": name, "reconstructions": 5, "estimates": numbers} for name in "01234"]
    return AttackResult("gmi", (Draw(0, 0, numbers, identities),), protocol, 12.5)


def digits() -> ResolvedSpec:
    return ResolvedSpec(spec=load_spec(ERASING_OF_DIGITS)[0], private_digest="a" * 64, public_digest="b" * 64)


def trial(name: str, point: int, params: dict[str, Any], *, status: str = "done") -> TrialResult:
    resolved = digits()
    spec = applied(resolved.spec, params) if point else undefended(resolved.spec)
    plan = plan_trial(resolved, Trial(name, point, params, seed=0, baseline=point == 0), spec)
    if status != "done":
        return TrialResult(plan, status, "identity loss became NaN", {}, {})
    utility = {"natural_accuracy": estimate(0.9, 0.8, 0.95, 270)}
    jobs = [JobNumerics(job.kind, 1, "Xeon", "2.14", "fp32", True, (), "") for job in plan.jobs]
    jobs[0] = dataclasses.replace(jobs[0], threads=2, deterministic=point != 1)
    return TrialResult(plan, status, "", utility, {"gmi": attack(0.5)}, tuple(jobs))


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    trials = (
        trial("base", 0, {}),
        trial("erased", 1, {AREA: 0.5, ASPECT: 1}),
        trial("broken", 2, {AREA: 0.8, ASPECT: 3.0}, status="failed"),
    )
    run = RunPaths(tmp_path / "run")
    write_tables(SweepResult(digits(), trials, {}), run)
    return run


def test_trials_have_a_row_each_whatever_became_of_them(paths: RunPaths) -> None:
    table = pd.read_parquet(paths.table("trials")).set_index("trial")
    assert list(table.index) == ["base", "erased", "broken"]
    assert list(table["status"]) == ["done", "done", "failed"]
    assert list(table["baseline"]) == [True, False, False]
    assert list(table.loc["erased", "defenses"]) == ["random_erasing"]
    assert json.loads(table.loc["erased", "params"]) == {AREA: 0.5, ASPECT: 1}
    assert table.loc["broken", "error"] == "identity loss became NaN"
    numbers = table.loc["erased", [f"natural_accuracy{end}" for end in ("", "_low", "_high", "_n", "_method")]]
    assert list(numbers) == [0.9, 0.8, 0.95, 270, "wilson"]


def rows_of(query: str) -> list[tuple[object, ...]]:
    relation = duckdb.sql(query)
    assert relation is not None  # as it is after a statement that returns nothing
    return relation.fetchall()


def test_missing_is_null_and_never_a_default(paths: RunPaths) -> None:
    query = f"""
        SELECT trial, error, natural_accuracy, natural_accuracy_n, natural_accuracy_method, "param.{AREA}"
        FROM '{paths.table("trials")}' ORDER BY point
    """
    assert rows_of(query) == [
        ("base", None, 0.9, 270, "wilson", None),
        ("erased", None, 0.9, 270, "wilson", 0.5),
        ("broken", "identity loss became NaN", None, None, None, 0.8),
    ]


def test_attacks_hold_protocol_and_estimates(paths: RunPaths) -> None:
    query = f"""
        SELECT trial, attack, attack_accuracy, attack_accuracy_low, knn_distance_high, steps, restarts, kept, selection,
               identities_attacked, queries, seconds_s, access
        FROM '{paths.table("attacks")}' ORDER BY point
    """
    numbers = ("gmi", 0.5, 0.3, 70.75, 200, 10, 5, "all", 5, 10050, 12.5, None)
    assert rows_of(query) == [("base", *numbers), ("erased", *numbers)]


def test_tables_say_how_the_jobs_of_a_trial_computed(paths: RunPaths) -> None:
    query = (
        f"SELECT trial, threads, device, torch, precision, deterministic FROM '{paths.table('trials')}' ORDER BY point"
    )
    same = ("1, 2", "Xeon", "2.14", "fp32")
    assert rows_of(query) == [("base", *same, True), ("erased", *same, False), ("broken", *[None] * 5)]


def test_identities_have_a_row_each(paths: RunPaths) -> None:
    table = pd.read_parquet(paths.table("identities"))
    assert list(zip(table["trial"], table["identity"], strict=True)) == [
        (name, identity) for name in ("base", "erased") for identity in "01234"
    ]
    assert set(table["reconstructions"]) == {5}
    assert set(table["attack_accuracy"]) == {0.5}


def test_units_stand_in_the_field_metadata(paths: RunPaths) -> None:
    schema = parquet.read_schema(paths.table("attacks"))
    assert schema.metadata == {b"sweep": digits().sweep.encode(), b"schema_version": b"2"}
    assert schema.field("attack_accuracy_low").metadata[b"unit"] == b"fraction in [0, 1]"
    assert schema.field("knn_distance").metadata[b"unit"] == b"squared distance, 1 between private images"
    assert schema.field("seconds_s").metadata[b"unit"] == b"s"
    assert b"unit" not in (schema.field("attack_accuracy_n").metadata or {})


def test_spreads_over_judges_and_priors_have_columns_where_there_are_several(tmp_path: Path) -> None:
    """Judges at 0.4 and 0.6, priors alike: 0.1 sqrt(2), and 0."""
    (draw,) = attack(0.4).draws
    other = {**draw.estimates, "attack_accuracy": estimate(0.6, 0.4, 0.7, 5)}
    draws = tuple(Draw(prior, judge, (draw.estimates, other)[judge], []) for prior in (0, 1) for judge in (0, 1))
    attacked = dataclasses.replace(attack(0.4), draws=draws)
    result = SweepResult(digits(), (dataclasses.replace(trial("base", 0, {}), attacks={"gmi": attacked}),), {})
    write_tables(result, RunPaths(tmp_path))
    query = f"SELECT attack_accuracy_judges_sd, attack_accuracy_priors_sd FROM '{RunPaths(tmp_path).table('attacks')}'"
    assert rows_of(query) == [(pytest.approx(0.02**0.5), 0.0)]
    field = parquet.read_schema(RunPaths(tmp_path).table("attacks")).field("attack_accuracy_judges_sd")
    assert field.metadata[b"unit"] == b"fraction in [0, 1]"
    shape = summary(result, run="", seconds=0.0, jobs={})["trials"][0]["attacks"]["gmi"]["attack_accuracy"]
    assert shape["judges_sd"] == pytest.approx(0.02**0.5)
    assert with_interval("attack_accuracy", attacked.estimates["attack_accuracy"]).endswith(
        ", judges ± 14.1, priors ± 0.0"
    )
    assert point_rows(result, intervals=True).rows[0].cells[5] == "50.0 %, judges ± 14.1, priors ± 0.0"


def test_numbers_of_any_metric_have_columns_by_their_names(paths: RunPaths) -> None:
    schema = parquet.read_schema(paths.table("attacks"))
    names = ("fid_swin_s", "hull_overlap_private_evaluation", "knowledge_extraction_test_accuracy")
    assert {str(schema.field(name).type) for name in names} == {"double"}
    assert {str(schema.field(f"{name}_n").type) for name in names} == {"int64"}
    assert b"unit" not in (schema.field("fid_swin_s").metadata or {}), "the s is the network's and no second"


def test_nothing_is_left_aside_and_an_empty_sweep_has_tables_too(paths: RunPaths) -> None:
    write_tables(SweepResult(digits(), (), {}), paths)
    assert sorted(path.name for path in paths.table("trials").parent.iterdir()) == [
        "attacks.parquet",
        "identities.parquet",
        "trials.parquet",
    ]
    assert len(pd.read_parquet(paths.table("identities"))) == 0


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("gmi.attack_accuracy_top5", "fraction in [0, 1]"),
        ("knn_distance", "squared distance, 1 between private images"),
        ("delta_face", "squared L2 distance"),
        ("knowledge_extraction_test_accuracy", "fraction in [0, 1]"),
        ("perceptual_distance_evaluation", None),
        ("queries", None),
    ],
)
def test_unit_of(name: str, unit: str | None) -> None:
    assert unit_of(name) == unit
