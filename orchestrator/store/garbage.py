"""What a store holds that no run needs: what is of no run, checkpoints of finished jobs, copies of what was damaged."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from orchestrator.errors import DamagedArtifact
from orchestrator.store.artifacts import ArtifactStore, sender_of
from orchestrator.store.files import StoredEntry


class Reason(StrEnum):
    """Why something can go, in words that follow a number of files."""

    unused = "results that no run refers to"
    broken_off = "left by jobs that broke off"
    finished = "checkpoints of finished jobs"
    abandoned = "checkpoints of jobs that no run refers to"
    log = "logs of jobs that no run refers to"
    note = "notes of jobs that no run refers to, and of processes that ended"
    damaged = "copies of damaged results"


@dataclass(frozen=True)
class Garbage:
    """Files that can go together."""

    path: str
    """A file or folder of the store."""
    reason: Reason
    files: int
    bytes: int


def garbage(store: ArtifactStore, *, referenced: Collection[str], before: dt.datetime) -> list[Garbage]:
    """Find what can be removed from a store.

    Args:
        referenced: keys of the jobs of all runs that use the store.
        before: anything that was written later stays, since a job may be about to need it.

    Raises:
        StoreUnavailable: if the store cannot be reached.
    """
    items = [
        *_results(store, store.files.below("objects"), referenced),
        *_checkpoints(store, store.files.below("checkpoints"), referenced),
        *_logs(store.files.below("logs"), referenced),
        *_notes(store.files.below("notes"), referenced),
        *_folders(store.files.below("damaged"), depth=2, reason=Reason.damaged),
    ]
    return [item for item, changed in items if changed < before]


def remove(store: ArtifactStore, items: Iterable[Garbage]) -> None:
    """Remove garbage from its store.

    Raises:
        StoreUnavailable: if it cannot be removed.
    """
    for item in items:
        store.files.delete(item.path)


Dated = tuple[Garbage, dt.datetime]
"""Garbage with the time of its last change."""


def _results(store: ArtifactStore, entries: Iterable[StoredEntry], referenced: Collection[str]) -> Iterator[Dated]:
    """Artifacts of no run, and what stands beside the files that the manifest of an artifact names."""
    for folder, group in groupby(entries, key=lambda entry: _top(entry.path, 3)):
        files = list(group)
        key = folder.rpartition("/")[2]
        if key not in referenced:
            yield _gathered(folder, Reason.unused, files)
        elif (kept := _kept(store, folder, key)) is not None:
            beside = [entry for entry in files if _top(entry.path, 4) not in kept]
            yield from _folders(beside, depth=4, reason=Reason.broken_off)


def _kept(store: ArtifactStore, folder: str, key: str) -> tuple[str, ...] | None:
    """The manifest of an artifact and the folder that it names; None where it is damaged, which its next job mends."""
    try:
        manifest = store.manifest(key)
    except DamagedArtifact:
        return None
    return () if manifest is None else (f"{folder}/manifest.json", f"{folder}/{manifest.attempt}")


def _checkpoints(store: ArtifactStore, entries: Iterable[StoredEntry], referenced: Collection[str]) -> Iterator[Dated]:
    for entry in entries:
        key = entry.path.rpartition("/")[2].partition(".")[0]
        if key not in referenced:
            yield _gathered(entry.path, Reason.abandoned, [entry])
        elif _kept(store, "", key):
            yield _gathered(entry.path, Reason.finished, [entry])


def _logs(entries: Iterable[StoredEntry], referenced: Collection[str]) -> Iterator[Dated]:
    for entry in entries:
        if entry.path.rpartition("/")[2].partition(".")[0] not in referenced:
            yield _gathered(entry.path, Reason.log, [entry])


def _notes(entries: Iterable[StoredEntry], referenced: Collection[str]) -> Iterator[Dated]:
    """Notes but those on how much a job of a run has sent to a service, which counts for its later tries."""
    for entry in entries:
        if sender_of(entry.path.rpartition("/")[2]) not in referenced:
            yield _gathered(entry.path, Reason.note, [entry])


def _folders(entries: Iterable[StoredEntry], *, depth: int, reason: Reason) -> Iterator[Dated]:
    """Files by the folder, or file, that they have at a depth of their paths."""
    for path, files in groupby(entries, key=lambda entry: _top(entry.path, depth)):
        yield _gathered(path, reason, list(files))


def _gathered(path: str, reason: Reason, files: list[StoredEntry]) -> Dated:
    size = sum(entry.bytes for entry in files)
    return Garbage(path, reason, len(files), size), max(entry.changed for entry in files)


def _top(path: str, depth: int) -> str:
    return "/".join(path.split("/")[:depth])
