"""Commands that only look answer quickly: nothing that takes long to import is imported unless it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.toy import write_spec

HEAVY = frozenset(
    {"matplotlib", "mlflow", "opacus", "optuna", "pandas", "ray", "scipy.special", "sklearn", "sympy", "timm"}
    | {"torch._dynamo", "torchmetrics", "torchvision"}
)
"""Each takes a tenth of a second to several seconds."""

PROBE = """
import json, sys
from typer.testing import CliRunner
from orchestrator.cli.commands import app
result = CliRunner().invoke(app, sys.argv[2:])
loaded = [name for name in json.loads(sys.argv[1]) if name in sys.modules]
if result.exit_code:
    sys.exit(result.output)
print(json.dumps(loaded))
"""


def loaded_by(*arguments: str, among: frozenset[str]) -> set[str]:
    """The modules that a command has imported when it ends, in a process of its own."""
    command = [sys.executable, "-c", PROBE, json.dumps(sorted(among)), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.returncode == 0, ended.stderr
    return set(json.loads(ended.stdout))


@pytest.mark.parametrize("command", ["validate", "plan"])
def test_a_spec_is_checked_and_planned_without_libraries_it_does_not_name(command: str, tmp_path: Path) -> None:
    runs = () if command == "validate" else ("--runs", str(tmp_path / "runs"))
    assert loaded_by(command, str(write_spec(tmp_path)), *runs, among=HEAVY) == set()


def test_help_needs_no_torch() -> None:
    assert loaded_by("--help", among=HEAVY | {"torch", "pydantic", "numpy"}) == set()
