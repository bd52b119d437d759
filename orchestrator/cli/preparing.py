"""`midre data prepare`: options become a config, images are prepared under a progress bar, the outcome is told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
import yaml
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from orchestrator.cli.output import TRIALS_FAILED, print_json, print_line, stderr, stdout
from orchestrator.errors import RequestError
from orchestrator.spec.hints import did_you_mean
from orchestrator.spec.messages import message_of
from workloads.datasets.base import DATASETS
from workloads.datasets.preparation import MANIFEST, UNDIVIDED, Preparation
from workloads.datasets.preparation.layouts import Format
from workloads.datasets.reading.raw import RawConfig, open_download

SHOWN_PROBLEMS = 20
"""Missing or damaged images that are listed; the manifest lists all."""
NOT_OPTIONS = frozenset({"kind", "path", "side", "image_size", "channels", "max_per_identity"})
"""Fields that `--set` refuses: other arguments set them, or they apply when prepared images are read."""


def prepare_dataset(
    name: str,
    source: Path,
    out: Path,
    *,
    overrides: Sequence[str] | None,
    form: Format,
    download: bool,
    jobs: int,
    allow_missing: bool,
    as_json: bool,
) -> None:
    """Prepare a data set, and print how to read it.

    Raises:
        RequestError: if there is no such data set, option or value.
        typer.Exit: if images are missing or damaged, unless `allow_missing`.
    """
    config = config_for(name, source, _settings_of(overrides))
    manifest = prepare(config, out, form=form, download=download, jobs=jobs, console=stderr)
    print_line(summary(manifest, out), console=stderr)
    if as_json:
        print_json(manifest)
    else:
        print_line(spec_lines(manifest, out, form), console=stdout)
    if manifest["problems"] and not allow_missing:
        raise typer.Exit(TRIALS_FAILED)


def _settings_of(overrides: Sequence[str] | None) -> dict[str, str]:
    """Split each `OPTION=VALUE` of `--set`; values stay YAML text.

    Raises:
        RequestError: if one of them is not of this form.
    """
    settings = {}
    for text in overrides or ():
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise RequestError(f"--set {text}: give an option and a value, for example --set protocol=hr_224.")
        settings[path] = value
    return settings


def config_for(name: str, source: Path, settings: Mapping[str, str]) -> RawConfig:
    """The config of the data set to prepare; `settings` are YAML values by field.

    Raises:
        RequestError: if there is no such data set, option or value; it lists those there are.
    """
    kinds = {kind: DATASETS.config_of(kind) for kind in DATASETS.kinds()}
    raw = {kind: config for kind, config in kinds.items() if issubclass(config, RawConfig)}
    if name not in raw:
        raise RequestError(
            f"{name}: no data set that can be prepared.{did_you_mean(name, raw)} Available: {', '.join(raw)}."
        )
    options = sorted(raw[name].model_fields.keys() - NOT_OPTIONS)
    fields: dict[str, Any] = {"kind": name, "path": str(source)}
    for option, text in settings.items():
        if option not in options:
            near = did_you_mean(option, options)
            raise RequestError(f"--set {option}: no option of {name}.{near} Options: {', '.join(options)}.")
        fields[option] = _value(option, text)
    try:
        return raw[name].model_validate_json(json.dumps(fields))
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
        where = ".".join(map(str, details["loc"]))
        raise RequestError(f"--set {where}: {message_of(details, raw[name])}") from error


def prepare(
    config: RawConfig, out: Path, *, form: Format, download: bool, jobs: int, console: Console
) -> dict[str, Any]:
    """Prepare a data set under a progress bar, and return its manifest."""
    if download:
        print_line(f"downloading {config.kind} into {config.path}, unless it is there ...", console=console)
        open_download(config).download()
    preparation = Preparation.of(config, out, form=form)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"{config.kind}: images", total=preparation.images)
        return preparation.run(jobs=jobs, on_images=lambda count: progress.advance(task, count))


def summary(manifest: Mapping[str, Any], out: Path) -> str:
    """Count the prepared images, and list the first problems."""
    lines = []
    for side, facts in manifest["sides"].items():
        images = ", ".join(f"{count} {part} images" for part, count in facts["images"].items())
        lines.append(f"{side}: {facts['identities']} identities, {images}, {len(facts['shards'])} shards")
    problems = [problem["message"] for problem in manifest["problems"]]
    if problems:
        lines += [f"{len(problems)} images are missing or damaged:", *problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"and {len(problems) - SHOWN_PROBLEMS} more: {out / MANIFEST} lists them all.")
    return "\n".join(lines)


def spec_lines(manifest: Mapping[str, Any], out: Path, form: Format) -> str:
    """The section of a spec that reads the prepared images."""
    columns: dict[str, Any] = {"label_column": "label"} if form == "hf" else {"order": "first_seen"}
    section: dict[str, dict[str, Any]] = {
        side: {"kind": "parquet", "path": str((out / side).absolute()), **columns} for side in manifest["sides"]
    }
    if "private" in section and UNDIVIDED not in manifest["sides"]["private"]["images"]:
        section["private"] |= {"parts_by_file": True} if form == "hf" else {"part_column": "part"}
        section["split"] = {"rule": "published"}
    return yaml.safe_dump({"data": section}, sort_keys=False).rstrip()


def _value(option: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RequestError(f"--set {option}: not a YAML value: {text!r}.") from error
