"""`midre gc` over runs and their store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli.commands import app
from orchestrator.errors import RequestError
from orchestrator.executors.inline import InlineExecutor
from orchestrator.store.artifacts import ArtifactStore
from tests.support.toy import toy_sweep


def gc(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["gc", "--json", "--older-than", "0", *arguments], catch_exceptions=False)
    shape: dict[str, Any] = json.loads(result.stdout)
    return shape


def test_what_a_run_needs_stays_and_the_rest_goes_when_it_is_said(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    sweep = toy_sweep(tmp_path, runs)
    sweep.run(InlineExecutor(), spec_file=None)
    store = ArtifactStore(runs / "store")
    folder = store.new_attempt("ee" * 32)
    (folder / "result.txt").write_text("12345")
    store.commit("ee" * 32, "probe", folder, {})

    listed = gc("--runs", str(runs))
    assert [item["path"] for item in listed["items"]] == [f"objects/ee/{'ee' * 32}"]
    assert store.manifest("ee" * 32) is not None
    assert gc("--runs", str(runs), "--delete")["deleted"] is True
    assert store.manifest("ee" * 32) is None
    toy_sweep(tmp_path, runs).run(executor := InlineExecutor(), spec_file=None)
    assert executor.snapshot().jobs_run == 0


def test_without_runs_nothing_is_removed(tmp_path: Path) -> None:
    ArtifactStore(tmp_path / "store")
    with pytest.raises(RequestError, match="no runs are there, and without them all of the store would go"):
        gc("--runs", str(tmp_path), "--delete")


def test_a_run_that_cannot_be_read_keeps_everything(tmp_path: Path) -> None:
    ArtifactStore(tmp_path / "store")
    (tmp_path / "old-12345678").mkdir()
    (tmp_path / "old-12345678" / "ledger.jsonl").write_text("{}\n")
    with pytest.raises(RequestError, match=r"old-12345678: what it needs of the store is not known"):
        gc("--runs", str(tmp_path), "--delete")
