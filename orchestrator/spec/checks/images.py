"""What decoding every image shows: images that are none, copies across private, public and held-out ones."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from orchestrator.spec.checks.problem import FieldProblem
from orchestrator.spec.model import Spec
from workloads.core.errors import DataError
from workloads.core.words import counted, first_few
from workloads.datasets.base import DATASETS, Dataset, split
from workloads.datasets.reading.census import BadImage, Census, DecodedImage, OnImages, census_of
from workloads.datasets.reading.copies import Copy, exact_copies, near_copies
from workloads.datasets.reading.stored import StoredImages

Side = Literal["private", "public"]
Watch = Callable[[str, int], OnImages]
"""Called with what is decoded and the number of images; returns what to call with the numbers that are done."""

MOST_LISTED = 20
"""Bad images that a problem lists; `midre data check` lists all."""


def unwatched(description: str, images: int) -> OnImages:
    """Show nothing."""
    return lambda count: None


@dataclass(frozen=True)
class Images:
    """One side of the data: the data set, its digest and, if its images are stored encoded, what they turned out as."""

    side: Side
    dataset: Dataset
    digest: str
    census: Census | None

    @functools.cached_property
    def used(self) -> list[DecodedImage]:
        """The images that models or priors see; empty if there is no census."""
        return [] if self.census is None else self.census.used(self.dataset.config.max_per_identity)

    @property
    def bad(self) -> Sequence[BadImage]:
        """Images that cannot be decoded."""
        return () if self.census is None else self.census.bad

    @property
    def skips_bad(self) -> bool:
        """Whether bad images are left out."""
        return isinstance(self.dataset, StoredImages) and self.dataset.skips_bad_images


def inspect(spec: Spec, side: Side, watch: Watch = unwatched) -> Images:
    """Read all images of one side, unless a run before did.

    Raises:
        DataError: if they cannot be listed.
    """
    dataset = DATASETS.build(getattr(spec.data, side))
    digest = dataset.digest()
    if not isinstance(dataset, StoredImages):
        return Images(side, dataset, digest, None)
    counts = dataset.image_counts()
    on_images = watch(f"{side} images", sum(counts[name] for name in dataset.names()))
    return Images(side, dataset, digest, census_of(dataset, digest, on_images))


def image_problems(spec: Spec, private: Images, public: Images) -> Iterator[FieldProblem]:
    """Bad images, identities that lack images because of them, and private images that are public."""
    for images in (private, public):
        if images.bad and not images.skips_bad:
            way_out = " Replace them, or set on_bad_image: skip." * hasattr(images.dataset.config, "on_bad_image")
            yield FieldProblem(("data", images.side), f"{bad_in_words(images)}.{way_out}")
    yield from _split_problems(spec, private)
    if spec.data.copies == "refuse" and (leaks := exact_copies(public.used, private.used)):
        message = f"{_leaks_in_words(leaks, public)}. Take them out, or set data.copies: report."
        yield FieldProblem(("data", "public"), message)


def _split_problems(spec: Spec, private: Images) -> Iterator[FieldProblem]:
    """Identities that are left with too few images to train and to measure."""
    if private.census is None:
        return
    if spec.data.split.rule == "fraction":
        counts = Counter(image.identity for image in private.used)
        few = [name for name in private.dataset.names() if counts[name] < 2] if private.bad else []
        have = "has" if len(few) == 1 else "have"
        message = f"{first_few(map(repr, few))} {have} fewer than 2 images that can be read: name the rest."
    else:
        trained = {image.identity for image in private.used if image.held_out is False}
        few = [name for name in private.dataset.names() if name not in trained]
        message = f"the published split trains on no image of {first_few(map(repr, few))}: name the rest."
    if few:
        yield FieldProblem(("data", "private", "identities"), message)
    elif spec.data.split.rule == "published" and not any(image.held_out for image in private.used):
        yield FieldProblem(("data", "split", "rule"), "the published split holds no image out: set it to fraction.")


def image_notes(spec: Spec, private: Images, public: Images) -> Iterator[str]:
    """What is left out, and which images are copies of others, in sentences."""
    for images in (private, public):
        yield from _side_notes(images)
    if spec.data.split.rule == "fraction" and private.dataset.publishes_split():
        yield (
            "data.private: the split that comes with it is not used, so that models train on images of its test part: "
            "set data.split.rule: published to take it."
        )
    if spec.data.copies == "report" and (leaks := exact_copies(public.used, private.used)):
        yield f"data.public: {_leaks_in_words(leaks, public)}."
    if near := near_copies(public.used, private.used):
        yield f"data.public: {_near_in_words(near, 'public', 'private ones')}."
    trained, held_out = _both_parts(spec, private)
    if copies := exact_copies(held_out, trained):
        names = list(dict.fromkeys(copy.image.identity for copy in copies))
        yield (
            f"data.private: held-out images of {first_few(names, 5)} are copies of training images ({len(copies)} of "
            f"{len(held_out)}): natural accuracy is measured on them too."
        )
    if near := near_copies(held_out, trained):
        yield f"data.private: {_near_in_words(near, 'held-out', 'training images')}."


def _side_notes(images: Images) -> Iterator[str]:
    left_out = [counted(count, reason) for reason, count in images.dataset.left_out().items() if count]
    if left_out:
        yield f"data.{images.side}: left out: {', '.join(left_out)}."
    if images.bad and images.skips_bad:
        yield f"data.{images.side}: {bad_in_words(images)}: skipped."
    yield from (f"data.{images.side}: {note}." for note in images.dataset.notes())


def _both_parts(spec: Spec, private: Images) -> tuple[list[DecodedImage], list[DecodedImage]]:
    """Images that are trained on and held out, as the jobs of the spec divide them."""
    used = private.used
    if spec.data.split.rule == "published":
        return [image for image in used if not image.held_out], [image for image in used if image.held_out]
    index = {name: number for number, name in enumerate(private.dataset.names())}
    try:
        sides = split(torch.tensor([index[image.identity] for image in used], dtype=torch.int64), spec.data.split)
    except DataError:
        return [], []  # an identity has a single image, which is a problem of its own
    trained, held_out = ([used[position] for position in side.tolist()] for side in sides)
    return trained, held_out


def bad_in_words(images: Images) -> str:
    """All images of a side that cannot be read, each with its reason, up to a number of them."""
    missing = Counter(bad.column for bad in images.bad if bad.column is not None)
    clauses = [f"column {column!r} has {counted(count, 'missing image{s}')}" for column, count in missing.items()]
    damaged = [f"{bad.where}: {bad.reason}" for bad in images.bad if bad.column is None]
    if damaged:
        total = len(images.bad) + (0 if images.census is None else len(images.census.images))
        listed = "; ".join(damaged[:MOST_LISTED]) + f"; and {len(damaged) - MOST_LISTED} more" * (
            len(damaged) > MOST_LISTED
        )
        clauses.append(f"{len(damaged)} of {counted(total, 'image{s}')} cannot be read: {listed}")
    return ", ".join(clauses)


def _leaks_in_words(leaks: Sequence[Copy], public: Images) -> str:
    first = leaks[0]
    return (
        f"{len(leaks)} of {counted(len(public.used), 'public image{s}')} are private ones, pixel for pixel, such as "
        f"{first.image.where}, which is {first.original.where}: what the attacker has must not hold what must not leak"
    )


def _near_in_words(near: Sequence[Copy], images: str, originals: str) -> str:
    first = near[0]
    look = "looks" if len(near) == 1 else "look"
    return (
        f"{counted(len(near), f'{images} image{{s}}')} {look} like {originals}, such as {first.image.where} and "
        f"{first.original.where}: see whether they are copies"
    )
