"""Never an old number for new code: what is computed again when code changes, what is said, and what can be kept."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli.commands import app
from orchestrator.errors import RequestError
from orchestrator.executors.inline import InlineExecutor
from orchestrator.executors.run_job import read_images
from orchestrator.executors.snapshot import Snapshot
from orchestrator.planning import code
from orchestrator.results.sweep_result import kept_changes
from orchestrator.store.ledger import read_events
from orchestrator.sweep import Sweep
from tests.support.toy import toy_sweep, write_spec
from workloads.context import JobContext
from workloads.core.source_code import code_below

MASK = "workloads.defenses.grid_mask"
DEFENDED = {"defenses": [{"kind": "grid_mask"}], "search": {"seeds": [0]}}

Change = Callable[[str], None]


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Iterator[Change]:
    """Makes it look as if the code of a module had been edited."""

    def edit(module: str) -> None:
        def edited(start: str) -> Mapping[str, str]:
            return {name: "edited" if name == module else value for name, value in code_below(start).items()}

        monkeypatch.setattr(code, "code_below", edited)
        code._code_of_modules.cache_clear()

    code._code_of_modules.cache_clear()
    yield edit
    code._code_of_modules.cache_clear()


def sweep(folder: Path) -> Sweep:
    return toy_sweep(folder, folder / "runs", **DEFENDED)


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished sweep: one defended point and the baseline."""
    folder = tmp_path_factory.mktemp("first")
    run(sweep(folder))
    return folder


@pytest.fixture
def folder(first_run: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(first_run, tmp_path / "copy")
    return tmp_path / "copy"


def run(target: Sweep, *accepted: str) -> Snapshot:
    return target.run(InlineExecutor(), spec_file=None, accepted_changes=accepted)


def runs_of(target: Sweep) -> Counter[str]:
    """How often each kind of job was run."""
    return Counter(event["kind"] for event in read_events(target.paths.ledger) if event["event"] == "job_done")


def test_all_that_depends_on_changed_code_runs_again_and_nothing_else(folder: Path, change: Change) -> None:
    before = runs_of(sweep(folder))
    change(MASK)
    done = run(sweep(folder))
    # Of the defended trial: its target, that one's accuracy, the attack and its judgement. The baseline stays.
    assert done.jobs_run == 4
    assert runs_of(sweep(folder)) - before == Counter(
        train_classifier=1, evaluate_classifier=1, run_attack=1, evaluate_attack=1
    )
    assert run(sweep(folder)).jobs_run == 0


def test_whatever_a_job_imports_from_afar_is_in_its_code(folder: Path, change: Change) -> None:
    every = {job.key for plan in sweep(folder).plans() for job in plan.jobs}
    change("workloads.core.randomness")
    assert sweep(folder).changed() == {"workloads.core.randomness": every}


def test_a_change_elsewhere_runs_nothing(folder: Path, change: Change) -> None:
    change("workloads.defenses.cutmix")
    assert sweep(folder).changed() == {}
    assert run(sweep(folder)).jobs_run == 0


def test_an_accepted_change_keeps_results_and_the_tables_say_so(folder: Path, change: Change) -> None:
    change(MASK)
    assert run(sweep(folder), "grid_mask").jobs_run == 0
    assert kept_changes(sweep(folder).result()) == [
        f"Results of 1 trial were made by other code than this and kept: {MASK}."
    ]


def test_there_is_nothing_to_say_where_nothing_changed(folder: Path, change: Change) -> None:
    assert kept_changes(sweep(folder).result()) == []


def test_results_that_do_not_say_their_code_are_used(folder: Path, change: Change) -> None:
    """Those of earlier versions go by the versions of components."""
    target = sweep(folder)
    for file in target.workspace.store.rglob("manifest.json"):
        manifest = json.loads(file.read_text())
        manifest["facts"] = {
            name: value
            for name, value in manifest["facts"].items()
            if name not in (code.CODE, code.MADE_BY, code.INPUTS_MADE_BY)
        }
        file.write_text(json.dumps(manifest))
    change(MASK)
    assert run(sweep(folder)).jobs_run == 0


def test_an_unmodified_release_goes_by_versions(folder: Path, change: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    change(MASK)
    monkeypatch.setattr(code, "is_released", lambda package, distribution: True)
    assert run(sweep(folder)).jobs_run == 0


def test_what_read_an_artifact_that_was_made_anew_runs_again(folder: Path, change: Change) -> None:
    """As when a run by changed code stopped after the target was trained."""
    target = sweep(folder)
    trained = target.plans()[1].keys.target
    file = next(target.workspace.store.rglob(f"{trained}/manifest.json"))
    manifest = json.loads(file.read_text())
    manifest["facts"][code.MADE_BY] = "other code"
    file.write_text(json.dumps(manifest))
    assert run(sweep(folder)).jobs_run == 3


def test_a_checkpoint_of_other_code_is_not_continued(tmp_path: Path) -> None:
    def context(digest: str) -> JobContext:
        return JobContext("key", {}, tmp_path, tmp_path / "c.safetensors", read_images, code=digest)

    before = context("old")
    before._saved_at = -100.0
    before.checkpoint(lambda: {"step": 3})
    assert context("old").resume() == {"step": 3}
    assert context("new").resume() is None


# The command line


def midre(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if isinstance(result.exception, RequestError):
        return str(result.exception)
    assert result.exit_code == 0, result.output
    return result.stdout + result.stderr


def test_plan_and_run_say_what_changed_and_how_many_jobs_run_again(folder: Path, change: Change) -> None:
    arguments = (write_spec(folder, **DEFENDED), "--runs", folder / "runs")
    change(MASK)
    line = f"changed since: {MASK}: 4 jobs run again; --accept-changed grid_mask keeps the old results"
    assert line in midre("plan", *arguments)
    rows = json.loads(CliRunner().invoke(app, ["plan", *map(str, arguments), "--json"]).stdout)["jobs"]
    assert sum(not row["done"] for row in rows) == 4
    kept = midre("run", *arguments, "--executor", "inline", "--accept-changed", "grid_mask")
    assert f"made by other code than this and kept: {MASK}" in kept
    assert line in midre("run", *arguments, "--executor", "inline")


def test_a_change_that_there_is_not_cannot_be_accepted(folder: Path, change: Change) -> None:
    spec = write_spec(folder, **DEFENDED)
    message = midre("run", spec, "--runs", folder / "runs", "--executor", "inline", "--accept-changed", "gmi")
    assert message == "--accept-changed gmi: no file of this name changed. Nothing has changed."
