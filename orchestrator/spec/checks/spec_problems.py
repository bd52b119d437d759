"""All problems of a well-formed spec."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.placement.nodes import Node
from orchestrator.spec.checks.data import data_problems, split_problems
from orchestrator.spec.checks.metrics import metric_problems, objective_problems
from orchestrator.spec.checks.networks import network_problems
from orchestrator.spec.checks.problem import FieldProblem
from orchestrator.spec.checks.resources import resource_problems
from orchestrator.spec.checks.search import search_problems
from orchestrator.spec.model import Spec


def problems_in(spec: Spec, nodes: Sequence[Node] | None) -> list[FieldProblem]:
    """Check a spec against its data and, unless `nodes` is None, against the machines its jobs have to fit.

    If the data cannot be used, what depends on it is not checked.
    """
    problems = list(data_problems(spec))
    if not problems:
        for check in (split_problems, search_problems, network_problems, metric_problems, objective_problems):
            problems += check(spec)
    if nodes is not None:
        problems += resource_problems(spec, nodes)
    return problems
