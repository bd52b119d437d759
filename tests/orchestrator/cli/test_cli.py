"""The command line as scripts use it: fixed shapes on stdout, words on stderr, an exit status to rely on.

All of it on one finished toy sweep: the baseline and one erased point.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner, Result

from orchestrator.cli.commands import app, main
from orchestrator.cli.options import ComponentType
from orchestrator.errors import RequestError
from orchestrator.placement.nodes import Gpu, Node
from orchestrator.store.paths import RunPaths, Workspace
from tests.support.toy import TOY, write_spec

AREA = "defenses.0.max_area"
SEARCH = {"space": {AREA: {"kind": "choice", "values": [0.6]}}, "seeds": [0]}
DIVERGES = ("--set", "target.training.lr=100000000000000000000")
INTERVAL = {"value", "low", "high"}


def midre(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def printed(*arguments: str | Path, status: int = 0) -> Any:
    """What a command prints with `--json`: one value, and nothing beside it."""
    result = midre(*arguments, "--json")
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


@dataclass(frozen=True)
class Finished:
    """A sweep that `midre run --json` ran, and what it printed."""

    spec: Path
    runs: Path
    summary: dict[str, Any]

    @property
    def run(self) -> Path:
        return Path(self.summary["run"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("cli")
    spec = write_spec(folder, search=SEARCH)
    summary = printed("run", spec, "--runs", folder / "runs", "--executor", "inline")
    return Finished(spec, folder / "runs", summary)


def test_run_prints_what_every_trial_came_to(finished: Finished) -> None:
    summary = finished.summary
    assert set(summary) == {"sweep", "run", "seconds", "cost", "jobs", "trials", "stage", "pareto", "optimism"}
    assert summary["jobs"] == {"run": 11, "cached": 0, "failed": 0}
    keys = {"id", "status", "seed", "stage", "params", "defenses", "natural_accuracy", "attacks"}
    assert [set(trial) for trial in summary["trials"]] == [keys, keys]
    assert [trial["status"] for trial in summary["trials"]] == ["done", "done"]
    assert [trial["params"] for trial in summary["trials"]] == [{}, {AREA: 0.6}]
    assert [trial["defenses"] for trial in summary["trials"]] == [[], ["random_erasing"]]
    assert all(set(trial["natural_accuracy"]) == INTERVAL for trial in summary["trials"])


def test_run_prints_of_every_attack_its_numbers_and_what_it_asked(finished: Finished) -> None:
    for trial in finished.summary["trials"]:
        (attack,) = trial["attacks"].values()
        assert set(attack) == {"attack_accuracy", "knn_distance", "queries", "seconds"}
        assert set(attack["attack_accuracy"]) == set(attack["knn_distance"]) == INTERVAL
        # 2 identities with 2 restarts each, asked in each of 3 steps and once at the end to choose by.
        assert attack["queries"] == 2 * 2 * (3 + 1)
        assert attack["seconds"] > 0


def test_run_prints_the_trials_of_the_frontier(finished: Finished) -> None:
    trials = [trial["id"] for trial in finished.summary["trials"]]
    assert finished.summary["pareto"]
    assert set(finished.summary["pareto"]) <= set(trials)


def test_running_again_runs_nothing_and_gives_the_same(finished: Finished) -> None:
    again = printed("run", finished.spec, "--runs", finished.runs, "--executor", "inline")
    assert again["jobs"] == {"run": 0, "cached": 11, "failed": 0}
    assert (again["trials"], again["pareto"]) == (finished.summary["trials"], finished.summary["pareto"])


def test_run_in_words_says_how_to_go_on(finished: Finished) -> None:
    options = ("--runs", finished.runs, "--executor", "inline")
    result = midre("run", finished.spec, "--set", "name=toy", *options)
    assert result.exit_code == 0
    assert f"report:    {finished.run / 'report' / 'index.html'}" in result.stdout
    assert f"run again: midre run {finished.spec} --set name=toy --runs {finished.runs}" in result.stdout


def test_report_writes_the_page_anew_and_prints_what_run_printed(finished: Finished) -> None:
    page = RunPaths(finished.run).report
    before = json.loads(RunPaths(finished.run).summary.read_text(encoding="utf-8"))
    page.unlink()
    again = printed("report", finished.run)
    assert page.is_file()
    assert again == before, "what the last run cost, too"
    assert again["seconds"] > 0


def test_status_counts_trials_and_jobs(finished: Finished) -> None:
    status = printed("status", finished.run)
    assert (status["run"], status["state"]) == (str(finished.run), "ended")
    assert status["trials"] == {"started": 0, "done": 2, "failed": 0, "to_come": 0, "confirming": 0}
    assert (status["jobs"], status["jobs_done"], status["jobs_failed"], status["jobs_waiting"]) == (11, 11, 0, [])


def test_plan_prints_every_job_before_those_that_read_it(finished: Finished) -> None:
    shape = printed("plan", finished.spec, "--runs", finished.runs)
    assert set(shape) == {"sweep", "trials", "jobs"}
    assert (shape["sweep"], shape["trials"], len(shape["jobs"])) == (finished.summary["sweep"], 2, 11)
    seen: set[str] = set()
    for job in shape["jobs"]:
        assert set(job) == {"key", "kind", "inputs", "done", "resources"}
        assert set(job["resources"]) == {"cpus", "gpus", "memory_gb", "gpu_memory_gb", "why"}
        assert re.fullmatch("[0-9a-f]{64}", job["key"])
        assert set(job["inputs"]) <= seen
        seen.add(job["key"])


def jobs_done(*arguments: str | Path) -> set[bool]:
    return {job["done"] for job in printed("plan", *arguments)["jobs"]}


def test_plan_starts_nothing(finished: Finished, tmp_path: Path) -> None:
    assert jobs_done(finished.spec, "--runs", tmp_path / "fresh") == {False}
    assert not (tmp_path / "fresh").exists()


def test_runs_are_where_the_command_says_else_the_shell_else_the_spec_else_here(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty, full = str(tmp_path / "empty"), str(finished.runs)
    in_empty, in_full = (("--set", f"storage.runs={folder}") for folder in (empty, full))
    monkeypatch.setenv("MIDRE_RUNS", empty)
    assert jobs_done(finished.spec, *in_empty, "--runs", full) == {True}
    monkeypatch.setenv("MIDRE_RUNS", full)
    assert jobs_done(finished.spec, *in_full, "--runs", empty) == {False}
    assert jobs_done(finished.spec, *in_empty) == {True}
    monkeypatch.setenv("MIDRE_RUNS", empty)
    assert jobs_done(finished.spec, *in_full) == {False}
    monkeypatch.delenv("MIDRE_RUNS")
    assert jobs_done(finished.spec, *in_full) == {True}
    monkeypatch.chdir(finished.runs.parent)
    assert jobs_done(finished.spec) == {True}
    monkeypatch.chdir(tmp_path)
    assert jobs_done(finished.spec) == {False}


@pytest.fixture
def laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run on a machine of two cores without a GPU."""
    monkeypatch.setattr("orchestrator.cli.opening.this_machine", lambda: Node("this machine", 2, (), 8.0))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run on a machine of 16 cores beside one GPU."""
    node = Node("this machine", 16, (Gpu(80.0, "H100"),), 128.0)
    monkeypatch.setattr("orchestrator.cli.opening.this_machine", lambda: node)


KINDS = ("train_classifier", "evaluate_classifier", "fit_prior", "run_attack", "evaluate_attack")


def test_validate_prints_that_nothing_is_wrong_and_what_jobs_will_get(finished: Finished, laptop: None) -> None:
    assert printed("validate", finished.spec) == {"ok": True, "problems": []}
    assert midre("validate", finished.spec).stderr.splitlines() == [
        f"{finished.spec}: nothing wrong.",
        "this machine: 2 CPUs, no GPU",
        *(f"{kind}: 1 CPU, 1 GiB of main memory (no GPU)" for kind in KINDS),
    ]


def test_plan_says_what_each_kind_of_job_will_get_of_a_gpu_and_why(
    finished: Finished, tmp_path: Path, server: None
) -> None:
    """The first of each shape asks for an estimate, and after a run for what was measured: no GPU there."""
    job = printed("plan", finished.spec, "--runs", tmp_path / "fresh")["jobs"][0]
    assert job["kind"] == "train_classifier"
    assert job["resources"].pop("why").endswith("GiB estimated, as none of its shape has finished")
    assert job["resources"] == {"cpus": 2, "gpus": 0.125, "memory_gb": 1.0, "gpu_memory_gb": 10.0}
    lines = midre("plan", finished.spec, "--runs", tmp_path / "fresh").stdout.splitlines()
    assert "this machine: 16 CPUs, 1 x H100 (80 GiB)" in lines
    (attack,) = [line for line in lines if line.startswith("run_attack: ")]
    assert attack.startswith("run_attack: 2 CPUs, 0.125 GPU with 10 GiB, 1 GiB of main memory (")


def test_a_spec_sets_resources_field_by_field(finished: Finished, tmp_path: Path, server: None) -> None:
    settings = ("--set", "resources=auto", "--set", "resources.fit_prior.gpus=0.3", "--runs", tmp_path)
    jobs = {job["kind"]: job["resources"] for job in printed("plan", finished.spec, *settings)["jobs"]}
    assert {kind: resources["gpus"] for kind, resources in jobs.items()} == {
        **dict.fromkeys(KINDS, 0.125),
        "fit_prior": 0.3,
    }
    assert jobs["fit_prior"]["why"] == "GPUs set by the spec"


def test_run_names_the_devices_in_its_first_line(finished: Finished, laptop: None) -> None:
    again = midre("run", finished.spec, "--runs", finished.runs, "--executor", "inline")
    assert re.match(r"this machine: \d+ CPUs?, ", again.stderr.splitlines()[0])


def test_validate_prints_every_problem_with_its_field_and_line_and_ends_with_2(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, defenses=[{"kind": "random_erasing", "area": 0.2}], attacks=[{"kind": "gmy"}])
    shape = printed("validate", spec, status=2)
    assert set(shape) == {"ok", "problems"}
    assert shape["ok"] is False
    assert {problem["field"] for problem in shape["problems"]} == {"defenses.0.area", "attacks.0"}
    lines = spec.read_text(encoding="utf-8").splitlines()
    for problem in shape["problems"]:
        assert set(problem) == {"field", "line", "message", "file"}
        assert problem["file"] == str(spec)
        assert re.search("area: 0.2|kind: gmy", lines[problem["line"] - 1])


def test_trials_that_fail_end_with_1_and_say_why(finished: Finished) -> None:
    options = ("--runs", finished.runs, "--executor", "inline")
    summary = printed("run", finished.spec, *DIVERGES, *options, status=1)
    assert summary["jobs"] == {"run": 0, "cached": 3, "failed": 2}
    assert [trial["status"] for trial in summary["trials"]] == ["failed", "failed"]
    assert all("DivergedError" in trial["error"] for trial in summary["trials"])
    assert summary["pareto"] == []
    counts = printed("status", summary["run"])
    assert (counts["trials"]["failed"], counts["jobs_failed"]) == (2, 2)
    assert "trials: 0 done, 2 failed, 0 not ended" in midre("status", summary["run"]).stdout


def test_runs_are_listed_with_their_state_and_best_point(finished: Finished) -> None:
    (row,) = [row for row in printed("runs", finished.runs) if row["name"] == finished.run.name]
    assert (row["state"], row["trials_done"], row["trials"]) == ("done", 2, 2)
    assert row["best"].startswith("max_area 0.6: natural accuracy ") or row["best"] == ""  # the baseline may beat it
    assert finished.run.name in midre("runs", finished.runs).stdout


def test_a_run_is_named_by_how_its_name_begins(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIDRE_RUNS", str(finished.runs))
    assert printed("status", finished.run.name[:-3]) == {**printed("status", finished.run), "run": str(finished.run)}
    message = str(midre("status", "toi").exception)
    assert message == f"toi: no run folder, and no run in {finished.runs} begins so; `midre runs` lists them."


def test_a_beginning_that_several_runs_share_is_refused(tmp_path: Path) -> None:
    for name in ("toy-1", "toy-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "resolved.json").touch()
    assert Workspace(tmp_path).find("toy-2").root == tmp_path / "toy-2"
    with pytest.raises(RequestError, match=r"toy: 2 runs in .* begin so: toy-1, toy-2\. Write more of the name"):
        Workspace(tmp_path).find("toy")


def test_the_version_is_that_of_the_distribution() -> None:
    assert midre("--version").stdout == f"midre {version('midre')}\n"


def test_plan_of_a_search_that_asks_as_it_goes_says_what_may_come(finished: Finished, tmp_path: Path) -> None:
    sampler = ("--set", "search.sampler={kind: tpe, points: 5}", "--set", "search.seeds=[0, 1]")
    space = ("--set", f"search.space[{AREA}]={{kind: uniform, low: 0.2, high: 0.9}}", "--runs", tmp_path)
    shape = printed("plan", finished.spec, *sampler, *space)
    # The baseline has the judge, its measurement, the prior, and of each seed training, measurement, attack, judgement.
    # Every further point has those four for each of its two seeds.
    assert (shape["trials"], len(shape["jobs"]), shape["most_jobs"]) == (12, 11, 11 + 5 * 8)
    text = midre("plan", finished.spec, *sampler, *space).stdout
    assert "tpe asks for 5 points one after another, each with 2 seeds: 2 to 12 trials, 11 to 51 jobs." in text


@pytest.mark.parametrize("components", list(ComponentType))
def test_list_prints_kind_summary_and_source_of_every_component(components: ComponentType) -> None:
    rows = printed("list", components)
    assert rows
    assert all({"kind", "summary", "source"} <= set(row) for row in rows)
    assert all(row["kind"] and row["summary"] for row in rows)


def test_list_attacks_says_what_each_may_ask_needs_and_does_in_turn() -> None:
    rows = {row["kind"]: row for row in printed("list", "attacks")}
    assert all(
        set(row) == {"kind", "summary", "source", "access", "needs", "stages", "package", "fields"}
        for row in rows.values()
    )
    assert all(row["source"] and row["access"] and row["stages"] for row in rows.values())
    assert len({rows[kind]["access"] for kind in ("gmi", "rlbmi", "brepmi")}) == 3
    assert "prior" in rows["gmi"]["needs"]
    assert {"steps", "restarts", "prior"} <= set(rows["gmi"]["fields"].split(", "))
    lines = midre("list", "attacks").stdout.splitlines()
    assert [line for line in lines if line.startswith("gmi  ")]
    assert all(len(line) <= 160 for line in lines)


def test_describe_tells_programs_of_a_component_what_its_class_says_and_its_fields() -> None:
    shape = printed("describe", "defenses.cutout")
    assert shape["facts"]["source"].startswith("DeVries and Taylor")
    assert [field["name"] for field in shape["fields"]] == ["kind", "side", "probability"]
    assert "- kind: cutout\n  side: 0.5\n" in shape["snippet"]
    words = midre("describe", "defenses.cutout.side").stdout
    assert "takes: number, above 0, at most 1" in words and "default: 0.5" in words
    assert "source: DeVries and Taylor" in words, "that of the component it belongs to"


def test_describe_writes_a_page_for_every_component(tmp_path: Path) -> None:
    assert midre("describe", "--all", "--html", tmp_path).exit_code == 0
    index = (tmp_path / "index.html").read_text()
    pages = re.findall(r'href="([^"#]+)"', index)
    assert {"attacks.gmi.html", "metrics.psnr.html", "search.sampler.tpe.html", "target.training.html"} <= set(pages)
    assert {file.name for file in tmp_path.iterdir()} == {"index.html", *pages}
    assert "<script" not in index
    assert "Largest absolute value of a latent number" in (tmp_path / "attacks.gmi.html").read_text()
    assert "<code>blur</code>: each box is reduced" in (tmp_path / "defenses.random_erasing.html").read_text()


def test_describe_needs_a_path_or_all() -> None:
    with pytest.raises(RequestError, match=r"give a path, such as attacks\.ppa, or --all"):
        CliRunner().invoke(app, ["describe"], catch_exceptions=False)


def test_schema_is_that_of_a_spec() -> None:
    result = midre("schema")
    assert result.exit_code == 0
    assert set(TOY) <= set(json.loads(result.stdout)["properties"])


def test_a_rerun_prints_every_number_then_and_now(finished: Finished) -> None:
    shape = printed("rerun", finished.spec, "--runs", finished.runs, "--executor", "inline")
    assert set(shape) == {"sweep", "run", "numbers"}
    assert Path(shape["run"]).is_relative_to(finished.run / "reruns")
    assert all(set(number) == {"trial", "name", "then", "now", "verdict"} for number in shape["numbers"])
    names = ("natural_accuracy", "gmi.attack_accuracy", "gmi.knn_distance")
    expected = [(trial["id"], name) for trial in finished.summary["trials"] for name in names]
    assert [(number["trial"], number["name"]) for number in shape["numbers"]] == expected
    assert {number["verdict"] for number in shape["numbers"]} == {"identical"}


def test_a_rerun_that_reproduces_says_so(finished: Finished) -> None:
    result = midre("rerun", finished.run, "--executor", "inline")
    assert result.exit_code == 0
    assert result.stdout.count("identical") == 6
    assert "different" not in result.stdout


def test_a_rerun_that_does_not_reproduce_ends_with_1(finished: Finished, tmp_path: Path) -> None:
    paths = RunPaths(finished.run)
    shutil.copy(paths.resolved, tmp_path)
    then = json.loads(paths.summary.read_text(encoding="utf-8"))
    then["trials"][0]["natural_accuracy"] = {"value": 2.0, "low": 2.0, "high": 2.0}
    (tmp_path / paths.summary.name).write_text(json.dumps(then), encoding="utf-8")
    result = midre("rerun", tmp_path, "--executor", "inline")
    assert result.exit_code == 1
    assert (result.stdout.count("different"), result.stdout.count("identical")) == (1, 5)


def test_sync_writes_a_run_that_mlflow_has_not_seen_and_says_where(finished: Finished) -> None:
    uri = f"sqlite:///{finished.runs / 'mlflow.db'}"
    result = midre("sync", finished.run)
    assert result.exit_code == 0
    assert f"{finished.summary['sweep']}: MLflow at {uri} is up to date." in result.stderr.splitlines()
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("midre")
    assert experiment is not None
    names = [run.data.tags["midre.id"] for run in client.search_runs([experiment.experiment_id])]
    # The sweep and its two trials.
    assert len(names) == len(set(names)) == 1 + 2
    assert finished.summary["sweep"] in names


@pytest.mark.parametrize("command", ["status", "report", "sync"])
def test_a_folder_that_is_no_run_is_refused(command: str, tmp_path: Path) -> None:
    refused = midre(command, tmp_path)
    assert isinstance(refused.exception, RequestError)
    assert "not a run folder" in str(refused.exception)


@pytest.mark.parametrize(
    "arguments",
    [("report", "nowhere"), ("rerun", "nowhere"), ("validate", "nowhere.yaml"), ("list", "nothing"), ("nonsense",)],
)
def test_a_wrong_request_ends_with_2(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["midre", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2


def test_a_wrong_request_is_one_line_on_stderr(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, attacks=[{"kind": "gmy"}])
    command = [sys.executable, "-m", "orchestrator", "run", str(spec), "--runs", str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{spec}:")
    assert "Did you mean 'gmi'?" in line
    assert not (tmp_path / "runs").exists()
