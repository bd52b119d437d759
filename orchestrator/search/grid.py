"""Every combination of listed values."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from orchestrator.search.base import Sampler
from orchestrator.spec.search_space import Choice, Distribution, Params


class Grid(Sampler):
    """The cartesian product of all choices, the last field varying fastest."""

    def __init__(self, space: Mapping[str, Distribution]) -> None:
        values = [choice.values for choice in space.values() if isinstance(choice, Choice)]
        assert len(values) == len(space), "the spec refuses anything but choices in a grid"
        self._points = [dict(zip(space, combination, strict=True)) for combination in itertools.product(*values)]

    def ask(self, index: int) -> Params | None:
        return self._points[index] if index < len(self._points) else None
