"""What is not wrong with the defenses of a spec and should be known: settings that do less than they say."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from pydantic import ValidationError

from orchestrator.search.samplers.base import SAMPLERS
from orchestrator.search.space import Params
from orchestrator.spec.apply import applied
from orchestrator.spec.model import Spec

MOST_POINTS = 200
"""Points of a search whose defenses are asked."""


def defense_notes(spec: Spec) -> Iterator[str]:
    """Remarks of the defenses at every point of the search, each once, in sentences."""
    notes: dict[str, None] = {}
    for point in itertools.islice(_points(spec), MOST_POINTS):
        side = point.target.input_size or point.data.private.image_size
        for index, defense in enumerate(point.defenses):
            notes |= {f"defenses.{index}: {remark}.": None for remark in defense.remarks((side, side))}
    yield from notes


def _points(spec: Spec) -> Iterator[Spec]:
    """The spec at every point of its search; if the sampler learns, at the ends of each distribution."""
    for params in _params(spec) if spec.search.space else [{}]:
        try:
            yield applied(spec, params)
        except ValidationError:
            continue  # values that do not go together are a problem of their own


def _params(spec: Spec) -> Iterator[Params]:
    search = spec.search
    if search.sampler.learns:
        for path, distribution in search.space.items():
            yield from ({path: value} for value in distribution.extremes())
        return
    sampler = SAMPLERS.build(search.sampler, space=search.space, objectives=search.objectives)
    for index in itertools.count():
        params = sampler.ask(index)
        if params is None:
            return
        yield params
