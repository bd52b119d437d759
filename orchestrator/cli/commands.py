"""The verbs of `midre` and their options; the module of a verb is imported when it is called, as many are slow to."""

from __future__ import annotations

import logging
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import (
    Address,
    AsJson,
    ComponentType,
    ExecutorName,
    ExecutorOption,
    Overrides,
    PreparedFormat,
    Question,
    RunFolder,
    Runs,
    SpecFile,
)
from orchestrator.cli.output import TRIALS_FAILED, WRONG_REQUEST, stderr

app = typer.Typer(
    help="Find the erasing area and aspect ratio that trade privacy for accuracy best, on your data and your model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data_app = typer.Typer(help="Check, show and prepare data.", no_args_is_help=True)
app.add_typer(data_app, name="data")


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"midre {version('midre')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find the erasing area and aspect ratio that trade privacy for accuracy best, on your data and your model."""


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr and exit status 2, a full disk one and 1."""
    from orchestrator.errors import ClusterLost
    from workloads.core.errors import MidreError

    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING)  # what happens in a run is said at INFO, and kept in its log
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", handlers=[terminal])
    try:
        app()
    except MidreError as error:
        stderr.print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(TRIALS_FAILED if isinstance(error, ClusterLost) else WRONG_REQUEST)
    except OSError as error:
        from orchestrator.store.room import NO_ROOM  # pyarrow is heavy, and disks are rarely full

        if error.strerror not in NO_ROOM:
            raise
        text = f"{error.filename or 'a disk'}: {error.strerror}: make room; the same command then continues."
        stderr.print(text, style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(TRIALS_FAILED)


@app.command()
def new(
    name: Annotated[str | None, typer.Option("--name", help="Name of the sweep; that of the file if omitted.")] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DIR|FILE", help="Images of people, or digits or avatars.")
    ] = None,
    public: Annotated[
        str | None,
        typer.Option(
            "--public",
            metavar="DIR|FILE",
            help="Images that an attacker has; if omitted, every other person of --data.",
        ),
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="How the images lie; if omitted, that is seen from the files.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The model to attack, such as small_cnn or torchvision:resnet18.")
    ] = None,
    question: Annotated[Question | None, typer.Option("--question", help="What to find out.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="The spec to write; else stdout.")] = None,
) -> None:
    """Look at data and write a commented spec that suits it; on a terminal, ask what is not said."""
    from orchestrator.cli.new_spec import new_spec

    new_spec(name=name, data=data, public=public, kind=kind, model=model, question=question, out=out)


@app.command()
def validate(spec: SpecFile, overrides: Overrides = None, as_json: AsJson = False, address: Address = None) -> None:
    """Check a spec against its data and this machine. Starts nothing."""
    from orchestrator.cli.validating import print_problems

    print_problems(spec, overrides, address=address, as_json=as_json)


@app.command()
def plan(
    spec: SpecFile,
    overrides: Overrides = None,
    runs: Runs = None,
    as_json: AsJson = False,
    address: Address = None,
) -> None:
    """Show the jobs of a sweep and which are done. Starts nothing."""
    from orchestrator.cli.planning import print_plan

    print_plan(spec, overrides, runs=runs, address=address, as_json=as_json)


@app.command()
def run(
    spec: SpecFile,
    overrides: Overrides = None,
    runs: Runs = None,
    executor: ExecutorOption = ExecutorName.ray,
    address: Address = None,
    accept_changed: Annotated[
        list[str] | None,
        typer.Option(
            "--accept-changed",
            metavar="KIND",
            help="Use old results although this file changed, such as random_erasing.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start a sweep, or continue it: finished work is never done twice, unless its code changed."""
    started = time.monotonic()  # before the import of torch, which is part of the time a user waits
    from orchestrator.cli.running import run_spec

    run_spec(
        spec,
        overrides,
        runs=runs,
        executor=executor,
        address=address,
        accepted_changes=accept_changed or (),
        started=started,
        as_json=as_json,
    )


@app.command()
def status(
    run: RunFolder,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again until the run ends.")] = False,
    events: Annotated[bool, typer.Option("--events", help="Print what happened, one JSON object a line.")] = False,
) -> None:
    """Show what a run is doing: trials, jobs at work and those that wait, nodes, cost, last errors."""
    from orchestrator.cli.status import print_status

    print_status(run, as_json=as_json, watch=watch, events=events)


@app.command()
def doctor(
    spec: Annotated[
        Path | None, typer.Argument(metavar="[SPEC]", help="A spec file, whose store, data and MLflow are judged too.")
    ] = None,
    overrides: Overrides = None,
    runs: Runs = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Judge what a run depends on here and on a cluster: software, GPUs, memory, store, data, MLflow, clocks."""
    from orchestrator.cli.doctor import examine

    examine(spec, overrides, runs=runs, address=address, as_json=as_json)


@app.command("runs")
def list_runs(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Folder of runs; MIDRE_RUNS or ./runs if omitted.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List runs with their state, their progress and their best point."""
    from orchestrator.cli.runs import print_runs

    print_runs(folder, as_json=as_json)


@app.command()
def report(run: RunFolder, as_json: AsJson = False) -> None:
    """Write tables and report of a run again, and show its results."""
    from orchestrator.cli.results import rewrite_report

    rewrite_report(run, as_json=as_json)


@app.command()
def export(
    run: RunFolder,
    trial: Annotated[str, typer.Option(help="Id of a finished trial, or how it begins.")],
    to: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the files; it must be empty.")],
    as_json: AsJson = False,
) -> None:
    """Write the model of a trial as weights with a model card."""
    from orchestrator.cli.exporting import export_trial

    export_trial(run, trial, to, as_json=as_json)


@app.command()
def rerun(
    source: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, a spec file or an MLflow run id.")],
    runs: Runs = None,
    executor: ExecutorOption = ExecutorName.ray,
    address: Address = None,
    mlflow_uri: Annotated[str | None, typer.Option("--mlflow-uri", help="Where the MLflow run is.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a sweep again from nothing and compare every number; exit status 1 if one differs."""
    started = time.monotonic()  # likewise
    from orchestrator.cli.rerunning import rerun_and_compare

    rerun_and_compare(
        source, runs=runs, executor=executor, address=address, mlflow_uri=mlflow_uri, started=started, as_json=as_json
    )


@app.command()
def sync(run: RunFolder) -> None:
    """Send to MLflow what it lacks of a run; harmless to repeat."""
    from orchestrator.cli.results import sync_run

    sync_run(run)


@app.command()
def gc(
    runs: Annotated[
        list[Path] | None,
        typer.Option("--runs", help="Folder of runs; name all that use the store. MIDRE_RUNS or ./runs if omitted."),
    ] = None,
    store: Annotated[str | None, typer.Option("--store", help="The store, if it is not beside the runs.")] = None,
    older_than: Annotated[
        float, typer.Option("--older-than", metavar="DAYS", min=0, help="Leave alone what was written since.")
    ] = 1.0,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; otherwise it is only listed.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what a store holds that no run needs, or remove it."""
    from orchestrator.cli.tidying import collect_garbage

    collect_garbage(runs or (), store=store, older_than_days=older_than, delete=delete, as_json=as_json)


@app.command("list")
def list_components(components: ComponentType, as_json: AsJson = False) -> None:
    """List available components."""
    from orchestrator.cli.listing import print_components

    print_components(components, as_json=as_json)


@app.command()
def describe(
    path: Annotated[
        str | None, typer.Argument(metavar="PATH", help="A component or a field: attacks.ppa, search.seeds.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Describe every component.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="DIR", help="Write pages for a browser into this folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a component or a field of a spec means, takes and defaults to."""
    from orchestrator.cli.describing import describe as describe_path

    describe_path(path, everything=everything, html=html, as_json=as_json)


@data_app.command()
def prepare(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set with a layout of its own, such as celeba.")],
    source: Annotated[Path, typer.Option("--source", metavar="DIR", help="Folder of the download.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the Parquet files.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="OPTION=VALUE", help="A field of the data set, for example --set protocol=hr_224."
        ),
    ] = None,
    to: Annotated[
        PreparedFormat, typer.Option("--to", help="For whom: this project, or Hugging Face's datasets.")
    ] = PreparedFormat.midre,
    download: Annotated[
        bool, typer.Option("--download", help="Download it into --source first: celeba, emnist, lfw, mnist.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Number of shards written at the same time.")] = 4,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Exit with 0 even if images are missing or damaged.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a download image by image and write it as Parquet. Run it again to continue where it stopped."""
    from orchestrator.cli.preparing import prepare_dataset

    prepare_dataset(
        name,
        source,
        out,
        overrides=overrides,
        form=to.value,
        download=download,
        jobs=jobs,
        allow_missing=allow_missing,
        as_json=as_json,
    )


@data_app.command()
def check(spec: SpecFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Decode every image of a spec, list all that cannot be, and find copies across private, public and held-out."""
    from orchestrator.cli.data import check_data

    check_data(spec, overrides, as_json=as_json)


@data_app.command()
def show(
    spec: SpecFile,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The picture to write.")] = Path("data.png"),
    overrides: Overrides = None,
    identities: Annotated[int, typer.Option("--identities", min=1, help="People of each side.")] = 5,
    images: Annotated[int, typer.Option("--images", min=1, help="Images of each.")] = 8,
) -> None:
    """Write a picture of what the target model is shown: cropped, resized, and as training varies and hides it."""
    from orchestrator.cli.data import show_data

    show_data(spec, overrides, out=out, identities=identities, images=images)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a spec, for editors."""
    from orchestrator.cli.listing import print_schema

    print_schema()
