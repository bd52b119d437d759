"""Independent draws from the space."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

from orchestrator.search.base import Sampler
from orchestrator.spec.search_space import Choice, Distribution, Integer, LogUniform, Params, Uniform


class Random(Sampler):
    """The n-th point is a function of the seed and n, so a search that is continued draws the same points."""

    def __init__(self, space: Mapping[str, Distribution], *, points: int, seed: int) -> None:
        self._space, self._points, self._seed = space, points, seed

    def ask(self, index: int) -> Params | None:
        if index >= self._points:
            return None
        draws = random.Random(f"{self._seed}/{index}")
        return {path: _draw(distribution, draws) for path, distribution in self._space.items()}


def _draw(distribution: Distribution, draws: random.Random) -> Any:
    match distribution:
        case Choice(values=values):
            return draws.choice(values)
        case Integer(low=low, high=high):
            return draws.randint(low, high)
        case LogUniform(low=low, high=high):
            return math.exp(draws.uniform(math.log(low), math.log(high)))
        case Uniform(low=low, high=high):
            return draws.uniform(low, high)
