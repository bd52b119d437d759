"""Files that are replaced as a whole, so that a reader never sees half of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replace_when_written(path: Path, *, suffix: str | None = None, fsync: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write to; when the block ends without an error, that file replaces `path`.

    Args:
        path: the file to replace; its folder is made where there is none.
        suffix: what the temporary name adds. By default it holds the process id, so that two processes can write at
            once; with a fixed one, the next try overwrites what a killed process left.
        fsync: wait until the bytes are on disk, for a file that must survive a crash of the machine.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + (suffix or f".{os.getpid()}.tmp"))
    yield temporary
    if fsync:
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
    os.replace(temporary, path)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` by a file with this content; a reader sees the old file or the new one."""
    with replace_when_written(path) as temporary:
        temporary.write_bytes(data)
