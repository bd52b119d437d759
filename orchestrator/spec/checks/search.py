"""Problems of a search: paths that name no field, fields that cannot be searched, values that their fields refuse."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from orchestrator.search.samplers.base import SAMPLERS
from orchestrator.search.space import Distribution
from orchestrator.spec.apply import PROTOCOL, SEARCHABLE, NoSuchField, applied, field_at, model_at
from orchestrator.spec.checks.data import data_problems, split_problems
from orchestrator.spec.checks.images import image_problems, inspect
from orchestrator.spec.checks.networks import NETWORK_SECTIONS, network_problems
from orchestrator.spec.checks.problem import FieldProblem
from orchestrator.spec.messages import message_of
from orchestrator.spec.model import Spec
from workloads.core.config import Location, Preset, is_marked

MOST_POINTS = 1000
"""Points of a search that are checked as combinations of values."""


def search_problems(spec: Spec) -> Iterator[FieldProblem]:
    """Check every field of the space with its values and, if none is at fault, the combinations of values."""
    at_fault = False
    for path, distribution in spec.search.space.items():
        for message in _path_problems(spec, path, distribution):
            at_fault = True
            yield FieldProblem(("search", "space", path), message)
    if not at_fault:
        yield from _combination_problems(spec)


def _path_problems(spec: Spec, path: str, distribution: Distribution) -> Iterator[str]:
    """Why a field cannot be searched, or which of its values are refused."""
    try:
        field_at(spec.plain(), path)
    except NoSuchField as error:
        yield f"names no field: {error}"
        return
    reason = _why_not_searchable(spec, path)
    if reason is not None:
        yield f"cannot be searched{reason}"
        return
    section = path.partition(".")[0]
    checks_networks = section in NETWORK_SECTIONS and not _network_messages(spec, section)
    for value in distribution.extremes():
        try:
            point = applied(spec, {path: value})
        except ValidationError as error:
            yield f"the value {value!r} is refused: {message_of(error.errors()[0], Spec)}"
            continue
        messages: list[str] = []
        if section == "data":
            messages += _data_messages(point)
        if checks_networks:
            messages += _network_messages(point, section)
        yield from (f"the value {value!r} is refused: {message}" for message in messages)


def _data_messages(point: Spec) -> list[str]:
    """What is wrong with the data of a point, its images included: others may be used than in the spec."""
    problems = [*data_problems(point), *split_problems(point)]
    if not problems:
        problems += image_problems(point, inspect(point, "private"), inspect(point, "public"))
    return list(map(str, problems))


def _why_not_searchable(spec: Spec, path: str) -> str | None:
    """Why a field is the same for all trials, as the end of a sentence; None if it can be searched."""
    section = path.partition(".")[0]
    if section in PROTOCOL:
        way_out = "list attacks side by side, or run a spec for each value."
        return f": points are compared under one attack, one judge and one prior: {way_out}"
    if section not in SEARCHABLE:
        return f": only {', '.join(sorted(SEARCHABLE))} can."
    reason = _why_fixed(spec, path)
    if reason is not None:
        return f": {reason}"
    outer = next((outer for outer in spec.search.space if path.startswith(f"{outer}.")), None)
    if outer is not None:
        return f" beside {outer}, which replaces it: leave one of them out."
    if _has_mark(spec, path, Preset):
        return f": it fills in other fields as the spec is read. Search {path.rpartition('.')[0]}, whole."
    return None


def _why_fixed(spec: Spec, path: str) -> str | None:
    """Why a field of a section that can be searched cannot vary; None if it can."""
    section, *inner = path.split(".")
    if section != "data":
        return None
    if len(inner) < 2 and inner[:1] != ["split"]:
        return "images are read once for all trials: search a field of them, such as data.private.max_per_identity."
    if inner[-1] == "kind" or _has_mark(spec, path, Location):
        return "it says which images there are, and these are read once for all trials."
    return None


def _has_mark(spec: Spec, path: str, mark: type) -> bool:
    """Whether the field at a path is declared with this mark."""
    parent, _, name = path.rpartition(".")
    model = model_at(spec, parent)
    field = None if model is None else type(model).model_fields.get(name)
    return field is not None and is_marked(field, mark)


def _network_messages(spec: Spec, section: str) -> list[str]:
    """Why components of a section refuse to be built; the target model is built with its defenses."""
    sections = {section, "defenses"} if section == "target" else {section}
    return [problem.message for problem in network_problems(spec, sections)]


def _combination_problems(spec: Spec) -> Iterator[FieldProblem]:
    """The first point whose values are valid one by one but not together, unless the sampler learns its points."""
    search = spec.search
    if search.sampler.learns:
        return
    sampler = SAMPLERS.build(search.sampler, space=search.space, objectives=search.objectives)
    for index in range(MOST_POINTS):
        params = sampler.ask(index)
        if params is None:
            return
        try:
            applied(spec, params)
        except ValidationError as error:
            values = ", ".join(f"{path} {value!r}" for path, value in params.items())
            message = f"{values} do not go together: {message_of(error.errors()[0], Spec)}"
            yield FieldProblem(("search", "space"), message)
            return
