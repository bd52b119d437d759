"""`midre gc`: remove from a store what no run needs."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator.cli.output import print_json, print_line, stderr
from orchestrator.errors import RequestError
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.garbage import Garbage, Reason, garbage, remove
from orchestrator.store.ledger import read_events
from orchestrator.store.paths import RunPaths, Workspace
from orchestrator.sweep import Sweep, runs_folder
from workloads.core.errors import MidreError
from workloads.core.words import counted


def collect_garbage(
    folders: Sequence[Path], *, store: str | None, older_than_days: float, delete: bool, as_json: bool
) -> None:
    """List, or remove, what no run in `folders` needs of their store.

    Raises:
        RequestError: if a run cannot be read, since what it needs is not known then, or no store is there.
        StoreUnavailable: if the store cannot be reached.
    """
    folders = list(folders) or [runs_folder(None)]
    opened = _store(folders, store)
    before = dt.datetime.now(dt.UTC) - dt.timedelta(days=older_than_days)
    items = garbage(opened, referenced=_referenced(folders), before=before)
    if delete:
        remove(opened, items)
    size = sum(item.bytes for item in items)
    if as_json:
        listed = [{"path": item.path, "reason": item.reason.name, "bytes": item.bytes} for item in items]
        print_json({"store": opened.root, "deleted": delete, "bytes": size, "items": listed})
        return
    for line in _by_reason(items):
        print_line(line)
    outcome = "removed" if delete else "can go: --delete removes it"
    print_line(f"{opened.root}: {size / 2**20:,.1f} MiB {outcome}.", console=stderr)


def _store(folders: Sequence[Path], named: str | None) -> ArtifactStore:
    if named is not None:
        return ArtifactStore(named)
    store = Workspace(folders[0].absolute()).store
    if not store.is_dir():
        raise RequestError(f"{store}: no store is there: name the folder of runs with --runs, or another --store.")
    return ArtifactStore(store)


def _referenced(folders: Sequence[Path]) -> set[str]:
    """Keys of the jobs of all runs in some folders."""
    runs = [run for folder in folders for run in _runs(folder)]
    if not runs:
        raise RequestError(f"{folders[0]}: no runs are there, and without them all of the store would go: name them.")
    return {key for run in runs for key in _keys(run)}


def _runs(folder: Path) -> Iterator[Path]:
    """Every folder with a ledger: also one that cannot be read otherwise, whose needs are not known."""
    yield from (path.parent for path in sorted(folder.absolute().glob(f"*/{RunPaths(folder).ledger.name}")))


def _keys(run: Path) -> Iterator[str]:
    try:
        yield from (job.key for plan in Sweep.reopened(run).plans() for job in plan.jobs)
        yield from (event["key"] for event in read_events(RunPaths(run).ledger) if "key" in event)
    except MidreError as error:
        raise RequestError(
            f"{run}: what it needs of the store is not known, so nothing is removed: {error} Or delete the folder."
        ) from error


def _by_reason(items: Sequence[Garbage]) -> Iterator[str]:
    groups: defaultdict[Reason, list[Garbage]] = defaultdict(list)
    for item in items:
        groups[item.reason].append(item)
    for reason, group in groups.items():
        files, mib = sum(item.files for item in group), sum(item.bytes for item in group) / 2**20
        yield f"{mib:10,.1f} MiB  {counted(files, 'file{s}')}: {reason.value}"
