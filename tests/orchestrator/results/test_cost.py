"""What a sweep has cost: it adds up over runs, and what is found in the store is free."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli.commands import app
from orchestrator.results.cost import Cost, cost_of
from tests.support.toy import write_spec


def test_cost_is_time_times_what_was_held() -> None:
    jobs: list[dict[str, Any]] = [
        {"facts": {"seconds": 1800.0, "request": {"cpus": 2, "gpus": 0.5}}},
        {"facts": {"seconds": 3600.0, "request": {"cpus": 1, "gpus": 0}}},
        {"facts": {}},  # of a version that did not say
    ]
    assert cost_of(jobs) == Cost(3, cpu_hours=2.0, gpu_hours=0.25)
    assert str(cost_of(jobs)) == "3 jobs, 2 CPU hours and 0.25 GPU hours"
    assert str(cost_of(jobs[2:])) == "1 job, 0 CPU hours"


@pytest.mark.parametrize("again", ["run", "report"])
def test_a_later_command_that_computes_nothing_keeps_the_cost(tmp_path: Path, again: str) -> None:
    spec = write_spec(tmp_path, search={"space": {}, "seeds": [0], "baseline": False})
    run = ["run", str(spec), "--runs", str(tmp_path / "runs"), "--executor", "inline", "--json"]
    first = json.loads(CliRunner().invoke(app, run).stdout)
    second = json.loads(CliRunner().invoke(app, run if again == "run" else ["report", first["run"], "--json"]).stdout)
    assert first["cost"]["jobs"] == first["jobs"]["run"] > 0
    assert first["cost"]["cpu_hours"] > 0
    assert second["cost"] == first["cost"]
    if again == "run":
        assert second["jobs"]["run"] == 0
    page = (Path(first["run"]) / "report" / "index.html").read_text()
    assert f"So far the sweep has taken {first['cost']['jobs']} jobs, " in page
