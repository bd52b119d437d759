"""`midre new`: looks at data, asks what is not said, and writes a commented spec that validates."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import yaml
from jinja2 import Environment, StrictUndefined

from orchestrator.cli.opening import open_sweep
from orchestrator.cli.options import Question
from orchestrator.cli.output import print_line, print_text, stderr
from orchestrator.errors import RequestError
from orchestrator.placement.machine import this_machine
from orchestrator.spec.hints import did_you_mean
from workloads.core.files import write_atomically
from workloads.core.words import counted
from workloads.datasets.base import DATASETS, Dataset, DatasetConfig
from workloads.models.base import MODELS

TEMPLATE = Path(__file__).with_name("spec.yaml.jinja")
SHIPPED = {"digits": 1, "avatars": 3}
"""Data sets that need no files, with the channels of their images."""
ENDINGS = {".parquet": "parquet", ".tar": "webdataset"}
FEWEST_IMAGES = 5
"""Images that a person needs to be private: fewer cannot be divided into those to train on and those held out."""
FEWEST_PEOPLE = 2
"""People of each side."""
DESCRIPTIONS = {
    Question.trade: "Which random erasing is the best trade between accuracy and privacy?",
    Question.defenses: "What does each defense cost, and what does it buy?",
    Question.attacks: "Which attack gets most out of the model, and does random erasing hold against it?",
}


@dataclass(frozen=True)
class DataAtHand:
    """Images that were looked at."""

    section: dict[str, Any]
    """How a spec names them."""
    counts: Mapping[str, int]
    """Images of each person."""
    side: int
    """Shorter side of the first image, in pixels."""
    is_grey: bool

    @staticmethod
    def of(place: str, kind: str | None) -> DataAtHand:
        """Look at images in a folder or a file, or at a data set that ships with midre.

        Raises:
            RequestError: if there is nothing, or no data set of this kind.
            DataError: if it is not what its kind needs.
        """
        dataset = open_dataset(place, kind)
        counts = dict(dataset.image_counts())
        first = next(iter(counts))
        image = next(iter(dataset.read(frozenset([first])))).image
        section = dataset.config.model_dump(include={"kind", "path"})
        return DataAtHand(section, counts, min(image.size), image.mode == "L")

    def named(self, people: tuple[str, ...], size: int, channels: int, folder: Path) -> str:
        """As a spec in `folder` names the images of some people, on one line."""
        section = dict(self.section)
        if "path" in section:
            section["path"] = os.path.relpath(section["path"], folder)
        if len(people) < len(self.counts):
            section["identities"] = list(people)
        return _in_yaml(section | {"image_size": size, "channels": channels})


def open_dataset(place: str, kind: str | None) -> Dataset:
    """The data set at a place, of a kind that is given or that its files show; raises as `DataAtHand.of`."""
    kinds = DATASETS.kinds()
    if kind is not None and kind not in kinds:
        raise RequestError(
            f"--kind {kind}: no such data set.{did_you_mean(kind, kinds)} Available: {', '.join(kinds)}."
        )
    if kind in SHIPPED or (kind is None and place in SHIPPED):
        return DATASETS.build(DATASETS.config_of(kind or place).model_validate({}))
    path = Path(place).expanduser().absolute()
    if not path.exists():
        raise RequestError(f"--data {place}: no such folder or file; or one of {', '.join(SHIPPED)}, which need none.")
    config: type[DatasetConfig] = DATASETS.config_of(kind or kind_of(path))
    return DATASETS.build(config.model_validate({"kind": kind or kind_of(path), "path": str(path)}))


def kind_of(path: Path) -> str:
    """The kind of data set that a file or the files of a folder make; a folder of images if they show nothing else."""
    names = [path] if path.is_file() else sorted(path.glob("*"))
    return next((ENDINGS[name.suffix] for name in names if name.suffix in ENDINGS), "image_folder")


def divided(private: DataAtHand, public: DataAtHand | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """People to keep private, and people that the attacker has: every other one where all are in one place.

    Raises:
        RequestError: if there are too few.
    """
    many = [name for name, count in private.counts.items() if count >= FEWEST_IMAGES]
    chosen = tuple(many if public else many[::2])
    candidates = public.counts if public else [name for name in private.counts if name not in chosen]
    others = tuple(name for name in candidates if name not in chosen)
    if min(len(chosen), len(others)) < FEWEST_PEOPLE:
        raise RequestError(
            f"{len(private.counts)} people, {len(many)} of them with at least {FEWEST_IMAGES} images, leave "
            f"{len(chosen)} private and {len(others)} public: each side needs {FEWEST_PEOPLE}. Add people, or name "
            "other images with --public."
        )
    return chosen, others


def new_spec(
    *,
    name: str | None,
    data: str | None,
    public: str | None,
    kind: str | None,
    model: str | None,
    question: Question | None,
    out: Path | None,
) -> None:
    """Write a spec to a file, or to stdout if `out` is None.

    Raises:
        RequestError: if something is missing and nobody can be asked, or the file is there already.
        SpecError: if the spec does not suit the data; the file is there then.
    """
    if out is not None and out.exists():
        raise RequestError(f"--out {out}: is there already, and is not overwritten: give another name.")
    private = DataAtHand.of(data or _asked("data", f"Images: a folder, a file, {' or '.join(SHIPPED)}"), kind)
    other = None if public is None else DataAtHand.of(public, kind)
    print_line(f"{_in_words(private, tuple(private.counts))}, {private.side} pixels", console=stderr)
    model = model or _asked("model", "Model", "small_cnn")
    question = question or Question(_asked("question", f"Question: {', '.join(Question)}", Question.trade.value))
    folder = Path.cwd() if out is None else out.absolute().parent
    text = spec_text(name or _name_of(out), private, other, model, question, folder)
    if out is None:
        print_text(text.rstrip("\n"))
        return
    write_atomically(out, text.encode())
    open_sweep(out, None, runs=None, nodes=[this_machine()])
    print_line(f"{out}: written, and nothing wrong with it. Start it with: midre run {out}", console=stderr)


def spec_text(
    name: str, private: DataAtHand, public: DataAtHand | None, model: str, question: Question, folder: Path
) -> str:
    """The spec, with sizes that suit images and machine."""
    kinds = MODELS.kinds()
    model, _, network = model.partition(":")
    if model not in kinds:
        raise RequestError(f"--model {model}: unknown.{did_you_mean(model, kinds)} Available: {', '.join(kinds)}.")
    has_gpu = bool(this_machine().gpus)
    chosen, others = divided(private, public)
    size = 64 if has_gpu and private.side >= 64 else 32
    channels = 1 if private.is_grey and (public or private).is_grey else 3
    settings: dict[str, Any] = (
        {"width": 24, "stages": 4} if model == "small_cnn" else {"name": network} if network else {}
    )
    template = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True)
    return template.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        name=name,
        description=DESCRIPTIONS[question],
        question=question.value,
        private=private.named(chosen, size, channels, folder),
        public=(public or private).named(others, size, channels, folder),
        about_private=f"Must not leak: {_in_words(private, chosen)}.",
        about_public=f"What an attacker has: {_in_words(public or private, others)}.",
        model=_in_yaml({"kind": model, **settings}),
        flip="false" if private.section["kind"] == "digits" else "true",  # digits are not symmetric, faces nearly are
        epochs=50 if has_gpu else 25,
        prior_steps=6000 if has_gpu else 1500,
        attack_steps=500 if has_gpu else 200,
        attacked=min(len(chosen), 100 if has_gpu else 20),
        areas="[0.2, 0.4, 0.6, 0.8]" if has_gpu else "[0.2, 0.4, 0.8]",
    )


def _name_of(out: Path | None) -> str:
    """A name for a sweep, from that of its file."""
    stem = "" if out is None else re.sub(r"[^a-z0-9_-]+", "-", out.stem.lower()).strip("-_")
    return stem[:64] or "my-sweep"


def _in_yaml(section: dict[str, Any]) -> str:
    """A section between braces, whose further lines are indented as inside `data`."""
    text = yaml.safe_dump(section, default_flow_style=True, sort_keys=False, allow_unicode=True, width=110)
    return str(text).strip().replace("\n", "\n    ")


def _in_words(data: DataAtHand, people: tuple[str, ...]) -> str:
    counts = [data.counts[person] for person in people]
    numbers = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{min(counts)}"
    return f"{len(people):,} people, {counted(sum(counts), 'image{s}')}, {numbers} of each"


def _asked(option: str, question: str, default: str | None = None) -> str:
    """The answer of whoever sits at the terminal; the default, or an error, if nobody does."""
    if sys.stdin.isatty():
        return str(typer.prompt(question, default=default, err=True))
    if default is None:
        raise RequestError(f"new: give --{option}, such as --{option} photos/, or --{option} digits to try it out.")
    return default
