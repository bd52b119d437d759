"""What `midre run` says beside its results."""

from __future__ import annotations

import shlex
from pathlib import Path

from orchestrator.cli.options import ExecutorName
from orchestrator.cli.running import command_line


def test_the_command_that_continues_can_be_pasted_into_a_shell() -> None:
    line = command_line(
        Path("my specs/toy.yaml"),
        ["attacks.0={kind: gmi, steps: 5}"],
        Path("/data/runs 50%20off"),
        executor=ExecutorName.inline,
        address=None,
        accepted=["grid_mask"],
    )
    assert shlex.split(line) == [
        "midre", "run", "my specs/toy.yaml", "--set", "attacks.0={kind: gmi, steps: 5}",
        "--runs", "/data/runs 50%20off", "--executor", "inline", "--accept-changed", "grid_mask",
    ]  # fmt: skip
