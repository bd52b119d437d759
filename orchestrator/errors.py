"""Errors of the orchestrator; those that workloads raise are in `workloads/core/errors.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workloads.core.errors import MidreError


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong with a spec: where, and what to do about it."""

    line: int
    """Line in the spec file, counted from 1; 0 if the field does not stand there."""
    field: str
    """Dotted path of the field; empty for a problem of the file."""
    message: str

    def text(self, file: str) -> str:
        """The problem as one line that begins with the place."""
        where = f"{file}:{self.line}" if self.line else file
        return f"{where}: {self.field}: {self.message}" if self.field else f"{where}: {self.message}"


class AtField(ValueError):
    """Raised by a validator of a model that refuses one field below it; `path` leads from the model to the field."""

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path


class SpecError(MidreError):
    """A spec that is refused, with all its problems."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(problem.text(file) for problem in self.problems))


class RequestError(MidreError):
    """A command that cannot be carried out as it was given."""


class DamagedArtifact(MidreError):
    """Stored files that differ from what their manifest says."""

    def __init__(self, key: str, reason: str) -> None:
        self.key = key
        self.reason = reason
        super().__init__(f"artifact {key[:12]} is damaged: {reason}")

    def __reduce__(self) -> tuple[type[DamagedArtifact], tuple[str, str]]:
        return DamagedArtifact, (self.key, self.reason)


class TrackingUnavailable(MidreError):
    """MLflow that cannot be reached, or refuses what it is sent."""
