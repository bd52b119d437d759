"""A problem of a well-formed spec."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.spec.messages import dotted
from orchestrator.spec.yaml_source import FieldPath


@dataclass(frozen=True)
class FieldProblem:
    """One thing wrong with a field: the rule, and what to do about it."""

    field: FieldPath
    """Path from the spec to the field. A key of `search.space` is one part of it, dots included."""
    message: str

    def __str__(self) -> str:
        return f"{dotted(self.field)}: {self.message}"
