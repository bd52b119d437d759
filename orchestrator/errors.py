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
    file: str = ""
    """The file, if it is not the spec itself but one that it extends."""

    def shape(self, spec: str) -> dict[str, str | int]:
        """The problem for programs; `spec` is the file of the spec."""
        return {"field": self.field, "line": self.line, "message": self.message, "file": self.file or spec}

    def text(self, spec: str) -> str:
        """The problem as one line that begins with the place; `spec` is the file of the spec."""
        file = self.file or spec
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


class JobTimeout(MidreError):
    """A job that took longer than `resources.<kind>.timeout_s`."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        super().__init__(f"took longer than timeout_s: {timeout_s:g}; its log has what each of its threads was doing")

    def __reduce__(self) -> tuple[type[JobTimeout], tuple[float]]:
        return JobTimeout, (self.timeout_s,)


class ClusterLost(MidreError):
    """A Ray cluster, or the process of a run there that owns its jobs, that has gone while a sweep ran."""


class StoreUnavailable(MidreError):
    """An artifact store that cannot be reached, is full, or refuses what is asked of it."""

    def __init__(self, root: str, cause: OSError) -> None:
        self.root = root
        self.cause = cause
        reason = " ".join(str(cause).split()).rstrip(".")
        way_out = " Check its address and bucket, and the credentials in the environment." if "://" in root else ""
        super().__init__(f"{root}: the artifact store cannot be used: {reason}.{way_out}")

    def __reduce__(self) -> tuple[type[StoreUnavailable], tuple[str, OSError]]:
        return StoreUnavailable, (self.root, self.cause)


class TrackingUnavailable(MidreError):
    """MLflow that cannot be reached, or refuses what it is sent."""


class TrackingRefused(TrackingUnavailable):
    """MLflow that will not take results however often it is tried: what to change is said."""
