"""`midre data check` and `midre data show`: the data of a spec alone, in words and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import typer
from torch import Tensor

from orchestrator.cli.decoding import decoding_shown
from orchestrator.cli.output import WRONG_REQUEST, print_json, print_line, print_notes, stderr, stdout
from orchestrator.errors import RequestError
from orchestrator.spec.checks.data import data_problems, name_notes, split_problems
from orchestrator.spec.checks.images import Images, image_notes, image_problems, inspect
from orchestrator.spec.checks.problem import FieldProblem
from orchestrator.spec.loading import load_spec
from orchestrator.spec.messages import dotted
from orchestrator.spec.model import Spec
from orchestrator.spec.target import TargetConfig
from workloads.core.pictures import save_grid
from workloads.core.words import counted
from workloads.datasets.base import DATASETS, DatasetConfig
from workloads.recipes.augmentation import AugmentationConfig
from workloads.training.preview import as_read, as_trained_on, changes_images

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
"""Formats of a contact sheet."""


def check_data(spec_file: Path, overrides: Sequence[str] | None, *, as_json: bool) -> None:
    """Decode all images of a spec, list every one that cannot be, and say what else is wrong or should be known.

    Raises:
        SpecError: if the spec is malformed.
        typer.Exit: if something is wrong with the data.
    """
    spec, source = load_spec(spec_file, overrides=overrides or ())
    problems = list(data_problems(spec))
    sides: list[Images] = []
    notes: list[str] = []
    if not problems:
        problems += split_problems(spec)
        with decoding_shown(stderr) as watch:
            sides = [inspect(spec, "private", watch), inspect(spec, "public", watch)]
        problems += image_problems(spec, *sides)
        notes += [*name_notes(sides[0]), *image_notes(spec, *sides)]
    if as_json:
        print_json(_shape(sides, [(problem, source.line(problem.field)) for problem in problems], notes))
    else:
        for images in sides:
            print_line(_in_words(images))
        for problem in problems:
            print_line(source.problem(problem.field, problem.message).text(source.file), console=stderr)
        print_notes(notes)
    if problems:
        raise typer.Exit(WRONG_REQUEST)


def _in_words(images: Images) -> str:
    """The numbers of one side, and a line for each image that cannot be read."""
    names = images.dataset.names()
    total = sum(images.dataset.sizes().values())
    first = f"{images.side}: {_identities(len(names))}, {counted(total, 'image{s}')}, {len(images.bad)} cannot be read"
    return "\n".join([first, *(f"  {bad.where}: {bad.reason}" for bad in images.bad)])


def _identities(count: int) -> str:
    return f"{count:,} {'identity' if count == 1 else 'identities'}"


def _shape(
    sides: Sequence[Images], problems: Sequence[tuple[FieldProblem, int]], notes: Sequence[str]
) -> dict[str, Any]:
    return {
        "ok": not problems,
        "sides": {
            images.side: {
                "identities": len(images.dataset.names()),
                "images": sum(images.dataset.sizes().values()),
                "bad": [{"where": bad.where, "reason": bad.reason} for bad in images.bad],
                "left_out": {reason.replace("{s}", "s"): count for reason, count in images.dataset.left_out().items()},
            }
            for images in sides
        },
        "problems": [
            {"field": dotted(problem.field), "line": line, "message": problem.message} for problem, line in problems
        ],
        "notes": list(notes),
    }


def show_data(spec_file: Path, overrides: Sequence[str] | None, *, out: Path, identities: int, images: int) -> None:
    """Write a contact sheet of what the target model is shown, and say what each of its rows is.

    Raises:
        SpecError: if the spec is malformed.
        RequestError: if the picture's name has an ending that is no format of pictures.
        DataError: if the data cannot be read.
    """
    if out.suffix.lower() not in PICTURES:
        raise RequestError(f"--out {out}: give a name that ends in one of {', '.join(sorted(PICTURES))}.")
    spec, _ = load_spec(spec_file, overrides=overrides or ())
    rows = [
        *_rows(spec, spec.data.private, identities, images, side="private"),
        *_rows(spec, spec.data.public, identities, images, side="public"),
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    save_grid(out, torch.cat([pictures for _, pictures in rows]), columns=images)
    for number, (title, _) in enumerate(rows, start=1):
        print_line(f"row {number}: {title}", console=stdout)
    print_line(f"written: {out}", console=stderr)


def _rows(
    spec: Spec, config: DatasetConfig, identities: int, images: int, *, side: str
) -> Iterator[tuple[str, Tensor]]:
    """Title and pictures of each row: the first images of the first identities and, of private ones, what training
    makes of them.
    """
    names = DATASETS.build(config).names()[:identities]
    data = DATASETS.build(config.model_copy(update={"identities": names, "max_per_identity": images})).load()
    target = spec.target if isinstance(spec.target, TargetConfig) else None
    training = target.training if target is not None else None
    hidden = [defense.kind for defense in spec.defenses if changes_images(defense)]
    for number, name in enumerate(names):
        pixels = data.images[data.identities == number][:images]
        yield (
            f"{side} {name}",
            _filled(as_read(pixels, target.model) if target is not None else pixels.float() / 255, images),
        )
        if (
            side == "private"
            and target is not None
            and training is not None
            and (hidden or training.augmentation != AugmentationConfig())
        ):
            trained = as_trained_on(pixels, target.model, training.augmentation, spec.defenses)
            yield f"{side} {name}, as trained on ({', '.join(hidden) or 'augmented'})", _filled(trained, images)


def _filled(pictures: Tensor, columns: int) -> Tensor:
    """A full row of pictures, white where there are too few. Shape: (N, C, S, S) to (columns, C, S, S)."""
    missing = pictures.new_ones(columns - len(pictures), *pictures.shape[1:])
    return torch.cat([pictures, missing])
