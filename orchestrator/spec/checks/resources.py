"""Jobs that no machine has room for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.placement.nodes import Node, why_not
from orchestrator.placement.sizing import size
from orchestrator.spec.checks.problem import FieldProblem
from orchestrator.spec.model import ResourcesConfig, Spec


def resource_problems(spec: Spec, nodes: Sequence[Node]) -> Iterator[FieldProblem]:
    """Check that some node, if it is empty, takes a job of each kind."""
    for kind in ResourcesConfig.kinds():
        for resource, message in why_not(size(spec.resources.of(kind).needs(), nodes).request, nodes):
            yield FieldProblem(("resources", kind, resource), message)
