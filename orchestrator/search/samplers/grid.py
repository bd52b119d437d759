"""Every combination of listed values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal

from orchestrator.errors import AtField
from orchestrator.search.samplers.base import MOST_POINTS, SAMPLERS, Sampler, SamplerConfig
from orchestrator.search.space import Choice, Distribution, Objective, Params


class GridConfig(SamplerConfig):
    """Every combination of the listed values, in the order of the space."""

    kind: Literal["grid"] = "grid"

    def check_space(self, space: Mapping[str, Distribution]) -> None:
        for path, distribution in space.items():
            if not isinstance(distribution, Choice):
                rule = f"sampler grid needs lists of values, but this is {distribution.kind}"
                raise AtField(f"{rule}: use kind: choice, or sampler random or tpe", "space", path)
        points = math.prod(len(choice.values) for choice in space.values() if isinstance(choice, Choice))
        if points > MOST_POINTS:
            raise AtField(f"{points} combinations of values are more than {MOST_POINTS}: list fewer", "space")


@SAMPLERS.register(GridConfig)
class Grid(Sampler):
    """The Cartesian product of all choices; the last field varies fastest."""

    def __init__(
        self, config: GridConfig, *, space: Mapping[str, Distribution], objectives: Sequence[Objective]
    ) -> None:
        config.check_space(space)
        values = [choice.values for choice in space.values() if isinstance(choice, Choice)]
        self._points = [dict(zip(space, combination, strict=True)) for combination in itertools.product(*values)]

    def ask(self, index: int) -> Params | None:
        return self._points[index] if index < len(self._points) else None
