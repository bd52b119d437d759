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
"""Raised whenever the same numbers come to give other pictures."""
PREFIX = "avatar-"


class AvatarsConfig(DatasetConfig):
    kind: Literal["avatars"] = "avatars"
    first: NonNegativeInt = 0
    """Number of the first person; two data sets whose numbers do not meet share nobody."""
    people: PositiveInt = 20
    images_per_identity: PositiveInt = 30
    seed: int = 0


@DATASETS.register(AvatarsConfig)
class Avatars(Dataset):
    """People drawn from random traits all over the face, in random pose, expression, light and before any background.

    A study of what an attack recovers needs no private person with these, and `traits` says what there was to recover.
    Picture k of person i depends on the seed, i and k alone, at whatever resolution.

    Source: this project.
    """

    config: AvatarsConfig

    def counted(self) -> dict[str, int]:
        names = (f"{PREFIX}{self.config.first + index:05d}" for index in range(self.config.people))
        return dict.fromkeys(names, self.config.images_per_identity)

    def digest(self) -> str:
        numbers = (self.config.first, self.config.people, self.config.images_per_identity, self.config.seed)
        return digest({"drawing": DRAWING, "numbers": list(numbers)})

    def read(self, names: frozenset[str]) -> Iterator[Sample]:
        for name in self.available():
            if name in names:
                traits = self.traits(name)
                for picture in range(self.config.images_per_identity):
                    now = Circumstances.draw(np.random.default_rng((self.config.seed, _number(name), 1, picture)))
                    yield Sample(name, draw_face(traits, now, self.config.image_size))

    def traits(self, name: str) -> Traits:
        """What makes a person."""
        return Traits.draw(np.random.default_rng((self.config.seed, _number(name), 0)))

    def trait_table(self) -> dict[str, list[float]]:
        rows = [asdict(self.traits(name)) for name in self.names()]
        return {trait: [row[trait] for row in rows] for trait in rows[0]}


def _number(name: str) -> int:
    return int(name.removeprefix(PREFIX))
