"""Whether a store takes what is written to it: disks fill up, quotas are reached, and shares turn read-only."""

from __future__ import annotations

import errno
import os
import shutil

from orchestrator.errors import RequestError, StoreUnavailable
from orchestrator.store.artifacts import ArtifactStore, Manifest

NO_ROOM = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS))
"""What systems and libraries say when a disk is full, a quota is reached, or a file system can only be read."""
UNKNOWN_BYTES = 1 << 20
"""Size of an artifact where none of its shape is known."""
BLOCK = 1 << 12
LARGEST_PROBE = 1 << 26
NO_JOB_BEGINS = "No job begins until it can be written to."
MIB = 1 << 20


def is_want_of_room(error: BaseException) -> bool:
    """Whether an error, of Python or of a library, says that nothing can be written."""
    return isinstance(error, StoreUnavailable) or any(reason in str(error) for reason in NO_ROOM)


def bytes_of(manifest: Manifest | None) -> int:
    """Size of an artifact's files."""
    return UNKNOWN_BYTES if manifest is None else sum(file.bytes for file in manifest.files.values())


def want_of_room(store: ArtifactStore, needed: int) -> str:
    """Why an artifact of so many bytes cannot be written, with how much is missing; empty if it can.

    It is tried, since free space says nothing of quotas and permissions.
    """
    try:
        store.try_writing(min(needed, LARGEST_PROBE))
    except StoreUnavailable as error:
        if store.files.local is None or not is_full(error):
            return str(error)
        free = shutil.disk_usage(store.files.local).free
        missing = max(needed - free, BLOCK) / MIB
        return (
            f"{store.root} is full: {missing:.3g} MiB are missing for the next result, {free / MIB:.3g} MiB are free."
        )
    return ""


def check_room(store: ArtifactStore, needed: int) -> None:
    """Make sure that a store can be written to, and has room for so many bytes where that can be asked.

    Raises:
        RequestError: if it has less.
        StoreUnavailable: if nothing can be written.
    """
    store.try_writing(BLOCK)
    free = shutil.disk_usage(store.files.local).free if store.files.local is not None else needed
    if free < needed:
        raise RequestError(
            f"{store.root}: this run will write about {needed / MIB:.3g} MiB, and {free / MIB:.3g} MiB are free: make "
            "room (`midre gc` lists what no run needs), or set storage.artifacts to another folder."
        )


def is_full(error: StoreUnavailable) -> bool:
    """Whether room would help, unlike with a store that cannot be reached or only be read."""
    return any(reason in str(error) for reason in NO_ROOM[:2])
