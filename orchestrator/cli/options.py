"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


def run_folder(run: Path) -> Path:
    """The run folder at a path, or that of MIDRE_RUNS or ./runs whose name begins so.

    Raises:
        RequestError: if there is none, or several.
    """
    if run.is_dir():
        return run
    from orchestrator.store.paths import Workspace
    from orchestrator.sweep import runs_folder  # torch is heavy, and help does without

    return Workspace(runs_folder(None)).find(str(run)).root


class ExecutorName(StrEnum):
    """Where jobs run: in this process, or on a Ray cluster."""

    inline = "inline"
    ray = "ray"


class Question(StrEnum):
    """What a new spec asks."""

    trade = "trade"
    defenses = "defenses"
    attacks = "attacks"


class PreparedFormat(StrEnum):
    """For whom prepared images are laid out."""

    midre = "midre"
    hf = "hf"


class ComponentType(StrEnum):
    """What `midre list` can list."""

    attacks = "attacks"
    defenses = "defenses"
    datasets = "datasets"
    models = "models"
    priors = "priors"
    metrics = "metrics"


SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="A spec file, such as specs/quickstart.yaml.")]
RunFolder = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="A run folder, or how its name begins: quick.", callback=run_folder),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of words.")]
Runs = Annotated[
    Path | None,
    typer.Option("--runs", help="Folder of runs; if omitted, that of MIDRE_RUNS, else of the spec, else ./runs."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Set a field: prior.steps=500. PATH+=VALUE appends an item to a list, PATH- leaves a field out. A name "
        "with dots stands in brackets: 'search.space[defenses.0.max_area].values=[0.5]'. Files are relative to the "
        "shell's folder.",
    ),
]
Address = Annotated[str | None, typer.Option("--address", help="Join the Ray cluster at this address.")]
ExecutorOption = Annotated[ExecutorName, typer.Option("--executor", help="Where jobs run.")]
