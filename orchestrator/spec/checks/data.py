"""Problems of the data: images that are not there, people on both sides, a split that cannot be made."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence

from orchestrator.spec.checks.images import Images
from orchestrator.spec.checks.problem import FieldProblem
from orchestrator.spec.model import Spec
from workloads.core.errors import DataError
from workloads.datasets.base import DATASETS

CONTAINERS = frozenset({"parquet", "image_folder", "webdataset"})
"""Data sets that hold whatever was put into them, whose numbers may stand for the same people."""
CHARACTERS = frozenset({"digits", "mnist", "emnist"})
"""Data sets whose identities are characters: a 5 of one is a 5 of another."""


def data_problems(spec: Spec) -> Iterator[FieldProblem]:
    """Check both data sets alone and against each other."""
    names: dict[str, tuple[str, ...]] = {}
    notes: dict[str, list[str]] = {}
    for side, config in (("private", spec.data.private), ("public", spec.data.public)):
        try:
            dataset = DATASETS.build(config)
            names[side], notes[side] = dataset.names(), list(dataset.notes())
        except DataError as error:
            yield FieldProblem(("data", side, error.field) if error.field else ("data", side), error.reason)
    if len(names) < 2:
        return
    yield from _shared_identities(spec, names["private"], names["public"])
    if len(names["private"]) < 2:
        message = " ".join(
            ["has 1 identity: a classifier needs at least 2.", *(f"{note}." for note in notes["private"])]
        )
        yield FieldProblem(("data", "private", "identities"), message)
    private, public = spec.data.private, spec.data.public
    for field, expected, value in (
        ("image_size", private.image_size, public.image_size),
        ("channels", private.channels, public.channels),
    ):
        if value != expected:
            message = f"is {value} but data.private.{field} is {expected}: make them equal."
            yield FieldProblem(("data", "public", field), message)


def split_problems(spec: Spec) -> Iterator[FieldProblem]:
    """Check that the private images can be divided by the rule."""
    config = spec.data.private
    private = DATASETS.build(config)
    if spec.data.split.rule == "published":
        if not private.publishes_split():
            way_out = ", or name the column of a table that has one as part_column" * (config.kind == "parquet")
            message = f"{config.kind} publishes no split here: set the rule to fraction{way_out}."
            yield FieldProblem(("data", "split", "rule"), message)
        return
    single = [name for name, images in private.sizes().items() if images < 2]
    if single:
        yield FieldProblem(
            ("data", "private", "identities"),
            f"{single[0]!r}{_and_more(len(single) - 1)} have a single image: one has to train and another to measure, "
            "name the rest.",
        )


def name_notes(images: Images) -> Iterator[str]:
    """Identities of one side whose names differ only in how they are written."""
    spellings: dict[str, list[str]] = {}
    for name in images.dataset.names():
        spellings.setdefault(folded(name), []).append(name)
    for names in spellings.values():
        if len(names) > 1:
            listed = " and ".join(map(_distinct(names), names))
            yield f"data.{images.side}: {listed} are different identities here, and may be one person."


def _distinct(names: Sequence[str]) -> Callable[[str], str]:
    """How to write names so that they look different: in ASCII if only forms of Unicode set them apart."""
    return ascii if len({unicodedata.normalize("NFC", name) for name in names}) < len(names) else repr


def folded(name: str) -> str:
    """A name without what writes the same name in different ways: case, blanks, underscores, forms of Unicode.

    >>> folded("Jose\u0301_Diaz") == folded("jos\u00e9 diaz")
    True
    """
    return re.sub(r"[\s_]+", "", unicodedata.normalize("NFKC", name.casefold()))


def _shared_identities(spec: Spec, private: Sequence[str], public: Sequence[str]) -> Iterator[FieldProblem]:
    """Refuse names that are on both sides, where equal names can be the same person."""
    kinds = {spec.data.private.kind, spec.data.public.kind}
    by_folded = {folded(name): name for name in private}
    pairs = {
        name: name if name in private else by_folded[folded(name)]
        for name in sorted(public)
        if folded(name) in by_folded and _can_be_the_same(name, kinds)
    }
    if pairs:
        shared = [repr(name) if name == other else f"{name!r}, there {other!r}," for name, other in pairs.items()]
        yield FieldProblem(
            ("data", "public", "identities"),
            f"{', '.join(shared[:3])}{_and_more(len(shared) - 3)} {'is' if len(shared) == 1 else 'are'} "
            "private too: what the attacker has must not hold what must not leak.",
        )


def _can_be_the_same(name: str, kinds: set[str]) -> bool:
    """Whether a name on both sides can mean one person; a number means nothing beyond data sets of one kind."""
    return len(kinds) == 1 or kinds <= CONTAINERS or kinds <= CHARACTERS or not name.isdecimal()


def _and_more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""
