"""Temporary folders that are removed at the next start where the process that made them was killed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from orchestrator.store.owners import Owner

PREFIX = "midre-"
OWNER = ".owner.json"


def mark_owned(folder: Path) -> None:
    """Note in a temporary folder, whose name begins with `PREFIX`, that it is this process's."""
    (folder / OWNER).write_text(json.dumps(asdict(Owner.this_process())), encoding="utf-8")


def remove_abandoned(*places: Path) -> list[Path]:
    """Remove this user's marked folders whose owner has ended; returns them.

    Args:
        places: where they lie; by default the temporary directory, and /tmp, which takes its place for sockets.
    """
    folders = sorted(_abandoned(places or tuple({Path(tempfile.gettempdir()), Path("/tmp")})))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return folders


def _abandoned(places: tuple[Path, ...]) -> Iterator[Path]:
    for place in places:
        for folder in place.glob(f"{PREFIX}*"):
            with suppress(OSError, ValueError, TypeError):  # another user's, none of ours, or just being removed
                is_ours = not folder.is_symlink() and folder.stat().st_uid == os.getuid()
                if is_ours and Owner(**json.loads((folder / OWNER).read_text(encoding="utf-8"))).is_gone():
                    yield folder
