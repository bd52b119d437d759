"""Which files below a folder are images, and how many others there are, by the reason why they are left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = frozenset(
    {".apng", ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm", ".png"}
    | {".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"}
)
"""Endings of files that Pillow reads. A list of its own, since Pillow's depends on what is installed beside it."""
HEIF = frozenset({".heic", ".heif", ".hif"})
"""Endings of photographs as telephones store them, which Pillow does not read."""
HIDDEN = frozenset({"__macosx", "thumbs.db", "desktop.ini"})
"""What systems leave in folders of images, beside names that begin with a dot."""
LEFT_OUT_HIDDEN = "hidden file{s} or folder{s}"


@dataclass(frozen=True)
class Listing:
    """Images below a folder, sorted by path, and what else is there."""

    files: tuple[Path, ...]
    left_out: Counter[str] = field(default_factory=Counter)
    """Numbers of files and folders that are left out, by reason in words, with `{s}` for the ending of the plural."""


def is_hidden(name: str) -> bool:
    """Whether the name of a file or folder says that it is not one of the user's, such as `._a.png`."""
    return name.startswith(".") or name.lower() in HIDDEN


def visible_folders(folder: Path) -> list[str]:
    """Names of the folders directly inside a folder, sorted, without hidden ones."""
    return sorted(entry.name for entry in folder.iterdir() if not is_hidden(entry.name) and entry.is_dir())


def list_image_files(folder: Path) -> Listing:
    """List the images inside a folder and its sub-folders.

    A link to nothing that is named like an image counts as an image: reading it says that it is missing.

    Raises:
        OSError: if a folder cannot be opened.
    """
    left_out: Counter[str] = Counter()
    return Listing(tuple(sorted(_images_below(folder, left_out))), left_out)


def count_strays(folder: Path) -> Counter[str]:
    """Count what lies directly inside a folder and is not a folder to be read, by reason."""
    entries = [entry for entry in folder.iterdir() if is_hidden(entry.name) or not entry.is_dir()]
    return Counter(
        LEFT_OUT_HIDDEN if is_hidden(entry.name) else "file{s} beside the folders of the identities"
        for entry in entries
    )


def _images_below(folder: Path, left_out: Counter[str]) -> Iterator[Path]:
    """Yield the images, and count the rest. Folders that are linked are entered once, so that no circle is endless."""
    entered: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        if os.path.realpath(root) in entered:
            folders.clear()
            continue
        entered.add(os.path.realpath(root))
        left_out[LEFT_OUT_HIDDEN] += sum(map(is_hidden, folders))
        folders[:] = [name for name in folders if not is_hidden(name)]
        for name in files:
            reason = _why_left_out(name)
            if reason is None:
                yield Path(root, name)
            else:
                left_out[reason] += 1


def _refuse(error: OSError) -> None:
    raise error


def _why_left_out(name: str) -> str | None:
    """The reason why a file is no image, judged by its name; None if it is one."""
    if is_hidden(name):
        return LEFT_OUT_HIDDEN
    suffix = Path(name).suffix.lower()
    if suffix in SUFFIXES:
        return None
    if suffix in HEIF:
        return f"photograph{{s}} ending in {suffix}, which Pillow does not read: convert to JPEG to use them"
    return f"file{{s}} ending in {suffix}, which Pillow does not read" if suffix else "file{s} without an ending"
