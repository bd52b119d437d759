"""Who is attacked: the first identities, named ones, or some drawn at random, the same for every attack of a sweep."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, NonNegativeInt, PositiveInt, Tag

from workloads.core.config import ACCEPTS_LISTS, FrozenConfig
from workloads.core.errors import ConfigError
from workloads.core.words import first_few


class IdentityDraw(FrozenConfig):
    """A number of identities that are drawn."""

    count: PositiveInt
    """How many. A smaller draw with the same seed is part of a larger one."""
    draw: Literal["random"] = "random"
    """How they are drawn: each identity with the same chance."""
    seed: NonNegativeInt = 0
    """Other seeds draw other identities; attacks, points and training seeds do not."""


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    repeated = [name for index, name in enumerate(names) if name in names[:index]]
    if repeated:
        raise ValueError(f"{repeated[0]!r} is there twice: name each once")
    return names


def _form_of(choice: object) -> str:
    """Which of its forms a choice has, so that a problem is told of that form alone."""
    if isinstance(choice, dict | IdentityDraw):
        return "draw"
    return "names" if isinstance(choice, list | tuple) else "number"


def _none_if_all(choice: object) -> object:
    return None if choice == "all" else choice


Names = Annotated[tuple[str, ...], ACCEPTS_LISTS, Field(min_length=1), AfterValidator(_distinct)]
SomeIdentities = Annotated[
    Annotated[PositiveInt, Tag("number")] | Annotated[IdentityDraw, Tag("draw")] | Annotated[Names, Tag("names")],
    Discriminator(_form_of),
]
IdentityChoice = Annotated[
    SomeIdentities | None,
    BeforeValidator(_none_if_all, json_schema_input_type=SomeIdentities | Literal["all"] | None),
]
"""The first N identities, a random draw, those named, or, if None, all of them."""


def count_of(choice: IdentityChoice, classes: int) -> int:
    """How many identities a choice among `classes` attacks."""
    match choice:
        case None:
            return classes
        case int():
            return choice
        case IdentityDraw():
            return choice.count
        case _:
            return len(choice)


def chosen(choice: IdentityChoice, names: Sequence[str]) -> list[int]:
    """The classes that a choice attacks, in their order; `names` are those of all.

    A draw ranks identities by a hash of their name and the seed, so that it depends on nothing else.

    Raises:
        ConfigError: if a name is none of them, or there are fewer than a number asks for.
    """
    if isinstance(choice, tuple):
        unknown = [name for name in choice if name not in names]
        if unknown:
            raise ConfigError(f"identities: {unknown[0]!r} is none of them: there are {first_few(names)}.")
        return sorted(names.index(name) for name in choice)
    count = count_of(choice, len(names))
    if count > len(names):
        raise ConfigError(f"identities: {count} are to be attacked, but there are {len(names)}: lower it.")
    if isinstance(choice, IdentityDraw):
        return sorted(sorted(range(len(names)), key=lambda index: _rank(names[index], choice.seed))[:count])
    return list(range(count))


def in_words(choice: IdentityChoice, classes: int) -> str:
    """Who is attacked, and for whom intervals over them stand."""
    count = count_of(choice, classes)
    if count == classes:
        return f"all {classes}"
    match choice:
        case IdentityDraw():
            return f"{count} of {classes} drawn at random: intervals stand for all {classes}"
        case int():
            return f"the first {count} of {classes}: intervals stand for people like these"
        case _:
            return f"{count} of {classes} by name: intervals stand for people like these"


def _rank(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()
