"""All problems of a well-formed spec, and what else should be known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.placement.nodes import Node
from orchestrator.spec.checks.black_box import black_box_notes
from orchestrator.spec.checks.checkpoint import checkpoint_notes
from orchestrator.spec.checks.data import data_problems, name_notes, split_problems
from orchestrator.spec.checks.images import Watch, image_notes, image_problems, inspect, unwatched
from orchestrator.spec.checks.metrics import metric_problems, objective_problems
from orchestrator.spec.checks.networks import network_problems
from orchestrator.spec.checks.problem import FieldProblem
from orchestrator.spec.checks.remarks import defense_notes
from orchestrator.spec.checks.resources import resource_problems
from orchestrator.spec.checks.search import search_problems
from orchestrator.spec.model import Spec
from workloads.core.errors import DataError


@dataclass(frozen=True)
class Findings:
    """What checking a spec found."""

    problems: Sequence[FieldProblem]
    digests: tuple[str, str] | None
    """Digests of private and public data; None if the data cannot be used."""
    notes: tuple[str, ...]
    """What is not wrong and should be known, in sentences."""


def examine(spec: Spec, nodes: Sequence[Node] | None, watch: Watch = unwatched) -> Findings:
    """Check a spec against its data and, unless `nodes` is None, against the machines its jobs have to fit.

    If the data cannot be used, what depends on it is not checked. `watch` is told of images that are decoded.
    """
    problems = list(data_problems(spec))
    notes: list[str] = []
    digests = None
    if not problems:
        for check in (split_problems, search_problems, network_problems, metric_problems, objective_problems):
            problems += check(spec)
        try:
            private, public = inspect(spec, "private", watch), inspect(spec, "public", watch)
        except DataError as error:
            problems.append(FieldProblem(("data",), str(error)))
        else:
            digests = private.digest, public.digest
            problems += image_problems(spec, private, public)
            notes += [*name_notes(private), *image_notes(spec, private, public)]
    if not problems:
        notes += [*checkpoint_notes(spec), *black_box_notes(spec), *defense_notes(spec)]
    if nodes is not None:
        problems += resource_problems(spec, nodes)
    return Findings(problems, digests, tuple(notes))
