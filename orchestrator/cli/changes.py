"""What changed in the code since results were made, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.cli.output import print_line, stderr
from orchestrator.errors import RequestError
from orchestrator.sweep import Sweep
from workloads.core.words import counted


def check_accepted(sweep: Sweep, accepted: Sequence[str]) -> None:
    """Refuse to accept a change that there is not.

    Raises:
        RequestError: naming what has changed.
    """
    changed = sweep.changed() if accepted else {}
    for name in accepted:
        if not any(name in (module, *module.split(".")) for module in changed):
            there = f"Changed: {', '.join(changed)}." if changed else "Nothing has changed."
            raise RequestError(f"--accept-changed {name}: no file of this name changed. {there}")


def print_changes(changed: Mapping[str, frozenset[str]]) -> None:
    """Say on stderr which files changed since results were made, and how many jobs run again."""
    for module, keys in changed.items():
        last = module.rpartition(".")[2]
        jobs = counted(len(keys), "job{s}")
        print_line(
            f"changed since: {module}: {jobs} run again; --accept-changed {last} keeps the old results", console=stderr
        )
