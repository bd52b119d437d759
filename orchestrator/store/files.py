"""The files of a store by relative path, on a disk or behind any URI that pyarrow can open (s3://, gs://, hdfs://)."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pyarrow import fs

from orchestrator.errors import StoreUnavailable

_LOCAL = fs.LocalFileSystem()


@dataclass(frozen=True, order=True)
class StoredEntry:
    """A file as a listing shows it."""

    path: str
    """Relative to the store."""
    bytes: int
    changed: datetime
    """When it was written, by the clock of the machine that holds it."""


class StoreFiles:
    """A folder, local or remote, whose every failure is said in one line.

    Every method raises StoreUnavailable where the store cannot be reached, is full, or refuses.
    """

    def __init__(self, root: str | Path, *, filesystem: fs.FileSystem | None = None) -> None:
        self.root = str(root)
        """Path or URI of the folder, for people and for other tools."""
        with self._reaching():
            if filesystem is not None:
                base, path = filesystem, self.root
            elif "://" in self.root:
                base, path = fs.FileSystem.from_uri(self.root)
            else:
                base, path = _LOCAL, str(Path(root).expanduser().absolute())
                self.root = path
            base.create_dir(path, recursive=True)
        self._fs = fs.SubTreeFileSystem(path, base)
        self.local = Path(path) if isinstance(base, fs.LocalFileSystem) else None
        """The folder itself, where it is one of this machine; None where files have to be fetched."""

    def location(self, path: str) -> str:
        """Path or URI of a file or folder, for people and for other tools."""
        folder, query, options = self.root.partition("?")
        return f"{folder.rstrip('/')}/{path}{query}{options}"

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder."""
        with self._reaching():
            return bool(self._fs.get_file_info(path).type != fs.FileType.NotFound)

    def read(self, path: str) -> bytes:
        """The content of a file."""
        with self._reaching(), self._fs.open_input_stream(path) as stream:
            return bytes(stream.read())

    @contextmanager
    def stream(self, path: str) -> Iterator[fs.NativeFile]:
        """A file to be read piece by piece."""
        with self._reaching(), self._fs.open_input_stream(path) as stream:
            yield stream

    def write(self, path: str, content: bytes) -> None:
        """Write a file under another name and move it into place, so that none is ever half there."""
        folder = path.rpartition("/")[0]
        temporary = f"{folder}/{uuid.uuid4().hex[:12]}.tmp"
        with self._reaching():
            self._fs.create_dir(folder, recursive=True)
            try:
                with self._fs.open_output_stream(temporary) as stream:
                    stream.write(content)
                self._fs.move(temporary, path)
            except OSError:
                with suppress(OSError):  # a disk that is full has room for no half file
                    self._fs.delete_file(temporary)
                raise

    def create(self, path: str, content: bytes) -> bool:
        """Write a file if there is none; False if there is. Exact on a disk, and nearly so on an object store."""
        if self.local is None:
            if self.exists(path):
                return False
            self.write(path, content)
            return True
        file = self.local / path
        temporary = file.with_name(f"{file.name}.{uuid.uuid4().hex[:12]}.tmp")
        with self._reaching():
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(content)
                os.link(temporary, file)  # unlike a rename, it replaces nothing
            except FileExistsError:
                return False
            finally:
                temporary.unlink(missing_ok=True)
        return True

    def fetch(self, path: str, to: Path) -> None:
        """Copy a file, or all files of a folder, to a local path."""
        with self._reaching():
            to.parent.mkdir(parents=True, exist_ok=True)
            fs.copy_files(path, str(to), source_filesystem=self._fs, destination_filesystem=_LOCAL)

    def put(self, source: Path, path: str) -> None:
        """Copy a local file, or all files of a local folder, into the store."""
        with self._reaching():
            self._fs.create_dir(path if source.is_dir() else path.rpartition("/")[0], recursive=True)
            fs.copy_files(str(source), path, source_filesystem=_LOCAL, destination_filesystem=self._fs)

    def move_folder(self, path: str, target: str) -> None:
        """Move a folder file by file, since an object store has no folders."""
        with self._reaching():
            fs.copy_files(path, target, source_filesystem=self._fs, destination_filesystem=self._fs)
            self._fs.delete_dir(path)

    def delete(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it."""
        with self._reaching():
            if self._fs.get_file_info(path).type == fs.FileType.Directory:
                self._fs.delete_dir(path)
            else:
                self._fs.delete_file(path)

    def below(self, folder: str) -> list[StoredEntry]:
        """All files in a folder and the folders below it, in the order of their paths; none if there is no folder."""
        selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
        with self._reaching():
            files = [entry for entry in self._fs.get_file_info(selector) if entry.type == fs.FileType.File]
        return sorted(StoredEntry(entry.path, entry.size, entry.mtime) for entry in files)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnavailable(self.root, error) from error
