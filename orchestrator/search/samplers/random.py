"""Independent draws from the space."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from orchestrator.search.samplers.base import MOST_POINTS, SAMPLERS, Sampler, SamplerConfig
from orchestrator.search.space import Choice, Distribution, Integer, LogUniform, Objective, Params, Uniform


class RandomConfig(SamplerConfig):
    """Independent draws from the space; the n-th one depends on the seed and n alone."""

    kind: Literal["random"] = "random"
    points: Annotated[int, Field(gt=0, le=MOST_POINTS)]
    """Number of points to draw."""
    seed: int = 0
    """Seed of the draws."""

    @property
    def limit(self) -> int:
        return self.points


@SAMPLERS.register(RandomConfig)
class Random(Sampler):
    """The n-th point is a function of the seed and n, so a search that is continued draws the same points."""

    def __init__(
        self, config: RandomConfig, *, space: Mapping[str, Distribution], objectives: Sequence[Objective]
    ) -> None:
        self._config, self._space = config, space

    def ask(self, index: int) -> Params | None:
        if index >= self._config.points:
            return None
        draws = random.Random(f"{self._config.seed}/{index}")
        return {path: _draw(distribution, draws) for path, distribution in self._space.items()}


def _draw(distribution: Distribution, draws: random.Random) -> JsonValue:
    match distribution:
        case Choice(values=values):
            return draws.choice(values)
        case Integer(low=low, high=high):
            return draws.randint(low, high)
        case LogUniform(low=low, high=high):
            return math.exp(draws.uniform(math.log(low), math.log(high)))
        case Uniform(low=low, high=high):
            return draws.uniform(low, high)
