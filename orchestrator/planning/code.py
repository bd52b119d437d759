"""Which code answers a job, and whether a stored result was answered by it: "never an old number for new code"."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.planning.graph import PlannedJob
from workloads.core.config import FrozenConfig, PickedConfig, digest
from workloads.core.source_code import HERE, code_below, is_released

CODE, MADE_BY, INPUTS_MADE_BY = "code", "made_by", "inputs_made_by"
"""Facts in a manifest: the digests of a job's modules, one digest over all code that its result depends on, and those
of the artifacts it read."""
Facts = Mapping[str, Any]


def code_of(config: FrozenConfig) -> Mapping[str, str]:
    """Digest of every module that computes a job with these settings, by name: of the job and of all its components."""
    modules = {type(part).__module__ for part in _picked(config)}
    return _code_of_modules(frozenset(modules))


@functools.lru_cache(maxsize=1024)
def _code_of_modules(modules: frozenset[str]) -> Mapping[str, str]:
    return {name: value for module in sorted(modules) for name, value in code_below(module).items()}


def _picked(value: object) -> Iterator[PickedConfig]:
    """Every component's settings in a config, the config itself included."""
    if isinstance(value, PickedConfig):
        yield value
    if isinstance(value, FrozenConfig):
        for name in type(value).model_fields:
            yield from _picked(getattr(value, name))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _picked(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _picked(item)


def facts_of_code(job: PlannedJob, inputs: Mapping[str, Facts]) -> dict[str, Any]:
    """What the manifest of a job says of its code; `inputs` are the facts of the artifacts it reads, by role."""
    made_by = {role: facts.get(MADE_BY) for role, facts in inputs.items()}
    return {
        CODE: dict(job.code),
        INPUTS_MADE_BY: made_by,
        MADE_BY: digest({"code": dict(job.code), "inputs": made_by}),
    }


def changed_modules(job: PlannedJob, facts: Facts) -> frozenset[str]:
    """Modules whose code is not that which made an artifact of the job; none if artifact or job do not say.

    Modules of an unmodified release go by the versions of components, which are part of the key.
    """
    recorded = facts.get(CODE)
    if recorded is None or not job.code:
        return frozenset()
    names = {name for name in {*recorded, *job.code} if recorded.get(name) != job.code.get(name)}
    return frozenset(name for name in names if not _is_released(name.partition(".")[0]))


def _is_released(package: str) -> bool:
    return package == HERE and is_released(HERE, "midre")


@dataclass(frozen=True)
class Currency:
    """Says which stored artifacts were made by the code of today, or by changed code that the user accepts."""

    facts_of: Callable[[str], Facts | None]
    """Facts in the manifest of the artifact with a key; None if there is no such artifact."""
    accepted: Collection[str] = ()
    """Names of changed files whose old results are kept, such as `random_erasing`."""

    def changes(self, job: PlannedJob, jobs: Mapping[str, PlannedJob]) -> frozenset[str]:
        """Why the artifact of a job is not used: names of changed modules, or kinds of inputs that were made anew.

        It is empty if the artifact is used, and if there is none.

        Args:
            jobs: other jobs by key; inputs that are not among them are taken to be as they were.
        """
        facts = self.facts_of(job.key)
        if facts is None:
            return frozenset()
        changes = {name for name in changed_modules(job, facts) if not self._accepts(name)}
        for role, key in job.inputs.items():
            if key in jobs:
                changes |= self.changes(jobs[key], jobs) or self._made_anew(facts, role, jobs[key])
        return frozenset(changes)

    def _accepts(self, module: str) -> bool:
        return any(name in (module, *module.split(".")) for name in self.accepted)

    def _made_anew(self, facts: Facts, role: str, job: PlannedJob) -> set[str]:
        """The kind of an input, if another artifact of it is in the store than the one that was read."""
        read, stored = facts.get(INPUTS_MADE_BY, {}).get(role), self.facts_of(job.key)
        return {job.kind} if read is not None and stored is not None and stored.get(MADE_BY) != read else set()


def changed_jobs(jobs: Mapping[str, PlannedJob], currency: Currency) -> dict[str, frozenset[str]]:
    """Keys of the jobs that run again because of each changed module."""
    changes = {job.key: currency.changes(job, jobs) for job in jobs.values()}
    names = sorted({name for changed in changes.values() for name in changed})
    return {name: frozenset(key for key, changed in changes.items() if name in changed) for name in names}
