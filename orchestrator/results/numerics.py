"""What the bits of a sweep's results depended on, as the manifests of its jobs say, and remarks on what to know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.store.artifacts import Manifest

UNKNOWN = "unknown"


@dataclass(frozen=True)
class JobNumerics:
    """How one job computed."""

    kind: str
    """Kind of the job, such as 'train_classifier'."""
    threads: int | str
    device: str
    """Name of the GPU or of the processor; `cpu` in artifacts from before 0.3."""
    torch: str
    """Version of torch."""
    precision: str
    """Precisions of its networks, joined by commas."""
    deterministic: bool | None
    """Whether every operation had a deterministic form; None in artifacts from before 0.3."""
    nondeterministic_operations: tuple[str, ...]
    """Operations that had none."""
    missing_gpu: str
    """A line if the job asked for a GPU that torch did not see; else empty."""

    @staticmethod
    def of(manifest: Manifest) -> JobNumerics:
        """Read a manifest; what older ones do not say is unknown."""
        facts: dict[str, Any] = {**manifest.facts, **manifest.facts.get("numerics", {})}
        return JobNumerics(
            kind=manifest.kind,
            threads=facts.get("threads", UNKNOWN),
            device=facts.get("device", UNKNOWN),
            torch=facts.get("torch", UNKNOWN),
            precision=facts.get("precision", UNKNOWN),
            deterministic=facts.get("deterministic"),
            nondeterministic_operations=tuple(facts.get("nondeterministic_operations", ())),
            missing_gpu=facts.get("missing_gpu", ""),
        )

    @property
    def certainty(self) -> str:
        """Whether the job was deterministic: 'yes', 'no' with the operations that were not, or 'unknown'."""
        if self.deterministic is None:
            return UNKNOWN
        return "yes" if self.deterministic else f"no ({', '.join(self.nondeterministic_operations)})"


def numerics_rows(jobs: Sequence[JobNumerics]) -> list[tuple[str, list[str]]]:
    """The distinct values of each quantity over all jobs, by its name in words."""
    return [
        ("threads", _distinct(job.threads for job in jobs)),
        ("device", _distinct(job.device for job in jobs)),
        ("torch", _distinct(job.torch for job in jobs)),
        ("precision", _distinct(job.precision for job in jobs)),
        ("deterministic", _distinct(job.certainty for job in jobs)),
    ]


def remarks(jobs: Sequence[JobNumerics]) -> list[str]:
    """Sentences on results that were not made alike, not deterministically, or without the GPU they asked for.

    Jobs of one kind are compared: a spec may well give training other threads than attacks. Precision is part of the
    key, so it is never mixed by accident.
    """
    sentences = []
    for kind in dict.fromkeys(job.kind for job in jobs):
        alike = [job for job in jobs if job.kind == kind]
        mixed = [f"{name} {' and '.join(values)}" for name, values in _compared(alike) if len(values) > 1]
        if mixed:
            consequence = "They differ in the last bits, and small studies in more."
            sentences.append(f"{kind}: results mix {'; '.join(mixed)}. {consequence}")
        operations = _distinct(operation for job in alike for operation in job.nondeterministic_operations)
        if operations:
            sentences.append(f"{kind}: deterministic: no. torch has no deterministic form of {', '.join(operations)}.")
    return sentences + _distinct(job.missing_gpu for job in jobs if job.missing_gpu)


def _compared(jobs: Sequence[JobNumerics]) -> list[tuple[str, list[str]]]:
    return [(name, values) for name, values in numerics_rows(jobs) if name in ("threads", "device", "torch")]


def _distinct(values: Iterable[object]) -> list[str]:
    return sorted({str(value) for value in values})
