"""The command line. Heavy packages are imported inside the commands that need them."""

from __future__ import annotations

import json
import logging
import shlex
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from orchestrator.executors.base import Executor
    from orchestrator.planning.placement import Node
    from orchestrator.sweep import Sweep

app = typer.Typer(
    help="Find the erasing area and aspect ratio that trade privacy for accuracy best, on your data and your model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data_app = typer.Typer(help="Data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")
words = Console(stderr=True)
data = Console(width=None if sys.stdout.isatty() else 160)

TRIALS_FAILED, WRONG_REQUEST = 1, 2


class ExecutorName(StrEnum):
    inline = "inline"
    ray = "ray"


class What(StrEnum):
    attacks = "attacks"
    defenses = "defenses"
    datasets = "datasets"
    models = "models"
    priors = "priors"
    metrics = "metrics"


SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="A spec file, such as specs/quickstart.yaml.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/quickstart-1a2b3c4d.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of words.")]
Runs = Annotated[Path | None, typer.Option("--runs", help="Folder of runs; MIDRE_RUNS, the spec, then ./runs.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override a field, as in --set prior.steps=500.")
]
Address = Annotated[str | None, typer.Option("--address", help="Join the Ray cluster at this address.")]
Placed = Annotated[ExecutorName, typer.Option("--executor", help="Where jobs run.")]


def main() -> None:
    """Entry point: a user's mistake is one line on stderr and exit status 2."""
    from workloads.core.errors import MidreError

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app()
    except MidreError as error:
        words.print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(WRONG_REQUEST)


@app.command()
def validate(spec: SpecFile, overrides: Overrides = None, as_json: AsJson = False, address: Address = None) -> None:
    """Check a spec against its data and this machine; starts nothing."""
    from orchestrator.errors import SpecError

    try:
        _sweep(spec, overrides, runs=None, address=address)
    except SpecError as error:
        if not as_json:
            raise
        problems = [vars(problem) for problem in error.problems]
        _print_json({"ok": False, "problems": problems})
        raise typer.Exit(WRONG_REQUEST) from error
    if as_json:
        _print_json({"ok": True, "problems": []})
    else:
        words.print(f"{spec}: nothing wrong.")


@app.command("plan")
def show_plan(
    spec: SpecFile,
    overrides: Overrides = None,
    runs: Runs = None,
    as_json: AsJson = False,
    address: Address = None,
) -> None:
    """Show the jobs of a sweep and which are done; starts nothing."""
    sweep = _sweep(spec, overrides, runs, address=address)
    plans = sweep.plans()
    jobs = {job.key: job for own in plans for job in own.jobs}
    begun = bool(sweep.resolved.spec.storage.artifacts) or sweep.workspace.store.exists()  # opening it would make it
    done = {key: begun and sweep.store.manifest(key) is not None for key in jobs}
    if as_json:
        rows = [
            {
                "key": job.key,
                "kind": job.kind,
                "inputs": list(job.inputs.values()),
                "done": done[job.key],
                "resources": vars(job.request),
            }
            for job in jobs.values()
        ]
        _print_json({"sweep": sweep.id, "trials": sweep.search().size, "jobs": rows})
        return
    table = Table("kind", "jobs", "done", "CPUs", "GPUs", "memory GB", title=f"{sweep.id}: {len(plans)} trials")
    for kind in dict.fromkeys(job.kind for job in jobs.values()):
        own = [job for job in jobs.values() if job.kind == kind]
        request = own[0].request
        finished = sum(done[job.key] for job in own)
        table.add_row(kind, *map(str, (len(own), finished, request.cpus, request.gpus, request.memory_gb)))
    data.print(table)


@app.command()
def run(
    spec: SpecFile,
    overrides: Overrides = None,
    runs: Runs = None,
    executor: Placed = ExecutorName.ray,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Start a sweep, or continue it: finished work is never done twice."""
    started = time.monotonic()  # the time it takes to import torch counts
    from orchestrator.cli.console import run_watched, show_results

    sweep = _sweep(spec, overrides, runs, address=address)
    summary = run_watched(sweep, _executor(executor, address), spec_file=spec, started=started, console=words)
    if as_json:
        _print_json(summary)
    else:
        settings = "".join(f" --set {shlex.quote(own)}" for own in overrides or [])
        show_results(sweep, console=data, again=f"midre run {spec}{settings} --runs {sweep.workspace.root}")
    if summary["jobs"]["failed"] or any(trial["status"] != "done" for trial in summary["trials"]):
        raise typer.Exit(TRIALS_FAILED)


@app.command()
def status(run: RunFolder, as_json: AsJson = False) -> None:
    """How far a run is."""
    from orchestrator.errors import RequestError
    from orchestrator.store.ledger import run_state
    from orchestrator.store.paths import RunPaths

    paths = RunPaths(run)
    if not paths.resolved.is_file():
        raise RequestError(f"{run}: not a run folder: it has no {paths.resolved.name}.")
    state = run_state(paths.ledger)
    counts = {name: sum(own.status == name for own in state.trials.values()) for name in ("started", "done", "failed")}
    shape = {
        "run": str(run),
        "trials": counts,
        "jobs_done": len(state.jobs_done),
        "jobs_failed": len(state.jobs_failed),
    }
    if as_json:
        _print_json(shape)
        return
    data.print(f"{run}: {counts['done']} trials done, {counts['failed']} failed, {counts['started']} at work")
    for trial in state.trials.values():
        if trial.error:
            data.print(f"  {trial.id}: {trial.error}", markup=False)


@app.command()
def report(run: RunFolder, as_json: AsJson = False) -> None:
    """Write tables and report of a run anew, and show its results."""
    from orchestrator.cli.console import show_results
    from orchestrator.sweep import Sweep

    sweep = Sweep.reopened(run)
    summary = sweep.publish(seconds=0.0, jobs={"run": 0, "cached": 0, "failed": 0})
    if as_json:
        _print_json(summary)
    else:
        show_results(sweep, console=data)


@app.command()
def rerun(
    source: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, a spec file or an MLflow run id.")],
    runs: Runs = None,
    executor: Placed = ExecutorName.ray,
    address: Address = None,
    mlflow_uri: Annotated[str | None, typer.Option("--mlflow-uri", help="Where the MLflow run is.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a sweep afresh beside its old results and compare every number; exit status 1 where one differs."""
    from orchestrator.cli.console import run_watched
    from orchestrator.reports.tables import comparison_table
    from orchestrator.rerun import original
    from orchestrator.results.comparison import compare
    from orchestrator.sweep import runs_folder

    started = time.monotonic()
    if Path(source).is_file():
        source = str(_sweep(Path(source), None, runs, address=address).paths.root)
    old = original(source, runs=runs_folder(runs), mlflow_uri=mlflow_uri)
    fresh = old.fresh()
    summary = run_watched(fresh, _executor(executor, address), spec_file=None, started=started, console=words)
    rows = compare(old.summary, summary)
    if as_json:
        numbers = [{**vars(row), "verdict": row.verdict} for row in rows]
        _print_json({"sweep": fresh.id, "run": str(fresh.paths.root), "numbers": numbers})
    else:
        data.print(comparison_table(rows, title=f"rerun of {fresh.id}"))
        data.print(f"results: {fresh.paths.root}", soft_wrap=True, highlight=False)
    if any(row.verdict in ("different", "missing") for row in rows):
        raise typer.Exit(TRIALS_FAILED)


@app.command()
def sync(run: RunFolder) -> None:
    """Bring MLflow up to what a run's ledger and store say; harmless to repeat."""
    from orchestrator.store.paths import without_password
    from orchestrator.sweep import Sweep

    sweep = Sweep.reopened(run)
    sweep.sync()
    words.print(f"{sweep.id}: MLflow at {without_password(sweep.mlflow_uri)} is up to date.", soft_wrap=True)


@app.command("list")
def list_components(what: What, as_json: AsJson = False) -> None:
    """What there is to choose from."""
    rows = _registry(what).describe()
    if as_json:
        _print_json(rows)
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(Text, row.values()))
    data.print(table)


@data_app.command("prepare")
def prepare_data(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set with a layout of its own, such as celeba.")],
    source: Annotated[Path, typer.Option("--source", metavar="DIR", help="Folder of the download.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the Parquet files.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OPTION=VALUE", help="A field of the data set, as in --set protocol=hr_224."),
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Let torchvision download it first.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Shards made at a time.")] = 4,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Exit with 0 although images are missing or damaged.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a download image by image and write it as Parquet; run again, it continues where it stopped."""
    from orchestrator.cli.preparing import config_for, prepare, spec_lines, summary

    config = config_for(name, source, _pairs(overrides or []))
    manifest = prepare(config, out, download=download, jobs=jobs, console=words)
    words.print(summary(manifest, out), soft_wrap=True, highlight=False, markup=False)
    if as_json:
        _print_json(manifest)
    else:
        data.print(spec_lines(manifest, out), soft_wrap=True, highlight=False, markup=False)
    if manifest["problems"] and not allow_missing:
        raise typer.Exit(TRIALS_FAILED)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a spec, for editors."""
    from orchestrator.spec.model import Spec

    data.file.write(json.dumps(Spec.model_json_schema(), indent=1) + "\n")


def _sweep(spec: Path, overrides: list[str] | None, runs: Path | None, *, address: str | None) -> Sweep:
    """Read, check and resolve a spec."""
    from orchestrator.spec.loading import load_spec, resolve
    from orchestrator.sweep import Sweep

    loaded, source = load_spec(spec, overrides=_pairs(overrides or []))
    return Sweep.of(resolve(loaded, source, nodes=_nodes(address)), runs)


def _nodes(address: str | None) -> list[Node]:
    """The machines a spec has to fit: those of the cluster where one is named, else this one."""
    if address is None:
        from orchestrator.planning.machine import this_machine

        return [this_machine()]
    from orchestrator.executors.ray.cluster import nodes_at

    return nodes_at(address)


def _pairs(overrides: list[str]) -> dict[str, str]:
    from orchestrator.errors import RequestError

    pairs = {}
    for text in overrides:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise RequestError(f"--set {text}: give a field and a value, as in --set prior.steps=500.")
        pairs[path] = value
    return pairs


def _executor(name: ExecutorName, address: str | None) -> Executor:
    if name is ExecutorName.inline:
        from orchestrator.executors.inline import InlineExecutor

        return InlineExecutor()
    from orchestrator.executors.ray.executor import RayExecutor

    return RayExecutor(address)


def _registry(what: What) -> Any:
    from workloads.datasets.base import DATASETS
    from workloads.defenses.base import DEFENSES
    from workloads.inversion.attack import ATTACKS
    from workloads.metrics.base import METRICS
    from workloads.models.base import MODELS
    from workloads.priors.base import PRIORS

    registries = {
        What.attacks: ATTACKS,
        What.datasets: DATASETS,
        What.defenses: DEFENSES,
        What.metrics: METRICS,
        What.models: MODELS,
        What.priors: PRIORS,
    }
    return registries[what]


def _print_json(value: Any) -> None:
    data.file.write(json.dumps(value) + "\n")
