"""Drawn faces of people who do not exist, whose traits are known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Literal

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from workloads.core.config import digest
from workloads.datasets.avatars.drawing import Circumstances, Traits, draw_face
from workloads.datasets.base import DATASETS, Dataset, DatasetConfig, Sample

DRAWING = 1
"""Version of the drawing; raised whenever the same numbers give other pictures."""
PREFIX = "avatar-"
"""What the name of a person begins with; a number follows."""


class AvatarsConfig(DatasetConfig):
    """Which people to draw, and how many pictures of each."""

    kind: Literal["avatars"] = "avatars"
    first: NonNegativeInt = 0
    """Number of the first person. Two data sets whose ranges of numbers do not overlap have no person in common."""
    people: PositiveInt = 20
    """Number of people."""
    images_per_identity: PositiveInt = 30
    """Pictures of each person."""
    seed: int = 0
    """Seed of the population: another seed draws other people."""


@DATASETS.register(AvatarsConfig)
class Avatars(Dataset):
    """Faces drawn from random traits, in random pose, expression, light and before a random background.

    With these, what an attack recovers can be studied without private photographs, and compared with the true `traits`.
    Picture k of person i depends on the seed, i and k alone, at any resolution.

    Source: this project.
    """

    config: AvatarsConfig

    def image_counts(self) -> dict[str, int]:
        """The same number of images for each drawn person."""
        names = (f"{PREFIX}{self.config.first + index:05d}" for index in range(self.config.people))
        return dict.fromkeys(names, self.config.images_per_identity)

    def digest(self) -> str:
        """A digest of the drawing code's version and the numbers that faces are drawn from."""
        numbers = (self.config.first, self.config.people, self.config.images_per_identity, self.config.seed)
        return digest({"drawing": DRAWING, "numbers": list(numbers)})

    def read(self, names: frozenset[str]) -> Iterator[Sample]:
        """Draw the faces, each by its own generator."""
        for name in self.available():
            if name in names:
                traits = self.traits(name)
                for picture in range(self.config.images_per_identity):
                    generator = np.random.default_rng((self.config.seed, _number(name), 1, picture))
                    yield Sample(name, draw_face(traits, Circumstances.draw(generator), self.config.image_size))

    def traits(self, name: str) -> Traits:
        """Traits of a person, drawn from the seed and the number in the name."""
        return Traits.draw(np.random.default_rng((self.config.seed, _number(name), 0)))

    def trait_table(self) -> dict[str, list[float]]:
        """The traits that faces are drawn from, by name."""
        rows = [asdict(self.traits(name)) for name in self.names()]
        return {trait: [row[trait] for row in rows] for trait in rows[0]}


def _number(name: str) -> int:
    return int(name.removeprefix(PREFIX))
