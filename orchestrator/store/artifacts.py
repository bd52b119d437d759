"""The store of what finished jobs leave, by key: a manifest with digests commits it, and nothing changes it later.

Every attempt at a job writes to a folder of its own; the manifest names that folder and is moved into place last, so a
job killed at any moment leaves nothing that reads as finished, on a local disk and on an object store alike.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from pyarrow import fs

from orchestrator.errors import DamagedArtifact
from orchestrator.store.files import StoreFiles
from orchestrator.store.temporary import PREFIX, mark_owned

Facts = Mapping[str, Any]
"""How an artifact was made, as plain JSON values: seconds, machine, versions. Never part of a result."""


@dataclass(frozen=True)
class StoredFile:
    """Content of one file of an artifact."""

    sha256: str
    """64 hexadecimal digits."""
    bytes: int
    """Size of the file."""


@dataclass(frozen=True)
class Manifest:
    """Description of an artifact: its files with digests, and the job that made it."""

    key: str
    """Key of the job."""
    kind: str
    """Kind of the job, such as 'train_classifier'."""
    attempt: str
    """Folder of the files, below that of the key."""
    files: Mapping[str, StoredFile]
    """Files by name."""
    facts: Facts

    @staticmethod
    def from_json(text: str) -> Manifest:
        """Read what was written as JSON.

        Raises:
            ValueError, TypeError or KeyError: if it is no manifest.
        """
        data = json.loads(text)
        files = {name: StoredFile(**file) for name, file in data.pop("files").items()}
        return Manifest(files=files, **data)

    def digest(self) -> str:
        """SHA-256 over the names and digests of all files: equal for artifacts that hold the same bytes."""
        lines = "".join(f"{name} {file.sha256}\n" for name, file in sorted(self.files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()


_SENT = "sent-"
"""How names of notes begin that say how many images a job has sent."""


class ArtifactStore:
    """Artifacts by key under a folder, or under any URI that pyarrow can open (s3://, gs://, file://).

    Several processes may use one store at once: a key determines the result, so two writers of one key write the same.
    """

    def __init__(self, root: str | Path, *, filesystem: fs.FileSystem | None = None) -> None:
        """Open a store, and create its folder where there is none.

        Raises:
            StoreUnavailable: if it cannot be reached; every other method may as well.
        """
        self._files = StoreFiles(root, filesystem=filesystem)
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    @property
    def root(self) -> str:
        """Path or URI of the store."""
        return self._files.root

    @property
    def files(self) -> StoreFiles:
        """All its files, for those who tidy up."""
        return self._files

    def location(self, manifest: Manifest) -> str:
        """Path or URI of the folder with an artifact's files, for people and for other tools."""
        return self._files.location(f"{_folder(manifest.key)}/{manifest.attempt}")

    def manifest(self, key: str) -> Manifest | None:
        """Read the manifest of a finished artifact without checking its files; None if there is no such artifact.

        Raises:
            DamagedArtifact: if it cannot be read.
        """
        path = f"{_folder(key)}/manifest.json"
        if not self._files.exists(path):
            return None
        text = self._files.read(path)
        try:
            return Manifest.from_json(text.decode())
        except (ValueError, TypeError, KeyError) as error:
            raise DamagedArtifact(key, f"its manifest cannot be read: {error}") from error

    def verified(self, key: str) -> Manifest | None:
        """Read the manifest of a finished artifact and check all its files; None if there is no such artifact.

        Raises:
            DamagedArtifact: if a file is missing or is not what the manifest says.
        """
        manifest = self.manifest(key)
        if manifest is None:
            return None
        for name, file in manifest.files.items():
            with self._files.stream(self._path(manifest, name)) as stream:
                sha256 = _sha256(stream)
            if sha256 != file.sha256:
                raise DamagedArtifact(key, f"{name} has SHA-256 {sha256[:12]}, its manifest says {file.sha256[:12]}")
        return manifest

    def open(self, key: str) -> Path:
        """Return a local folder with the files of a finished artifact, checked against their digests.

        Raises:
            DamagedArtifact: if there is none, or a file is not what the manifest says.
        """
        manifest = self.verified(key)
        if manifest is None:
            raise DamagedArtifact(key, "it is not in the store")
        path = f"{_folder(key)}/{manifest.attempt}"
        if self._files.local is not None:
            return self._files.local / path
        folder = self._scratch_folder() / path
        if not folder.exists():
            # Renamed when complete, so that a copy that broke off is not taken for the artifact at the next try.
            copy = Path(tempfile.mkdtemp(dir=self._scratch_folder()))
            self._files.fetch(path, copy)
            folder.parent.mkdir(parents=True, exist_ok=True)
            copy.rename(folder)
        return folder

    def read_json(self, key: str, name: str) -> Any:
        """Read a JSON file of a finished artifact, checked against its digest.

        Raises:
            DamagedArtifact: if it is missing or is not what the manifest says.
        """
        manifest = self.manifest(key)
        if manifest is None or name not in manifest.files:
            raise DamagedArtifact(key, f"{name} is not in the store")
        data = self._files.read(self._path(manifest, name))
        if hashlib.sha256(data).hexdigest() != manifest.files[name].sha256:
            raise DamagedArtifact(key, f"{name} is not what its manifest says")
        return json.loads(data)

    def new_attempt(self, key: str) -> Path:
        """Make an empty local folder for a job to write into, and then to hand to `commit`."""
        folder = (self._files.local or self._scratch_folder()) / _folder(key) / uuid.uuid4().hex[:12]
        folder.mkdir(parents=True)
        return folder

    def commit(self, key: str, kind: str, folder: Path, facts: Facts) -> Manifest:
        """Make the files in `folder`, which `new_attempt` returned, the artifact of `key`."""
        files = {}
        for path in sorted(folder.iterdir()):
            with path.open("rb") as stream:
                files[path.name] = StoredFile(_sha256(stream), path.stat().st_size)
        manifest = Manifest(key, kind, folder.name, files, facts)
        if self._files.local is None:
            self._files.put(folder, f"{_folder(key)}/{folder.name}")
        self._files.write(
            f"{_folder(key)}/manifest.json", json.dumps(asdict(manifest), indent=1, sort_keys=True).encode()
        )
        self._delete_checkpoint(key)
        if shape := facts.get("shape"):
            self._files.write(f"shapes/{shape}", key.encode())
        if self._files.local is None:
            shutil.rmtree(folder)
        return manifest

    def latest_of(self, shape: str) -> Manifest | None:
        """Read the manifest of the job of a shape that finished last; None if there is none that can be read."""
        path = f"shapes/{shape}"
        if not shape or not self._files.exists(path):
            return None
        try:
            return self.manifest(self._files.read(path).decode())
        except DamagedArtifact:
            return None

    def set_aside(self, key: str) -> str:
        """Move a damaged artifact to `damaged/`, where it can be looked at; returns its path or URI there."""
        target = f"damaged/{key[:16]}-{time.time_ns()}"
        if self._files.exists(_folder(key)):  # not if another process that shares the store was faster
            self._files.move_folder(_folder(key), target)
        return self._files.location(target)

    def checkpoint_file(self, key: str) -> Path:
        """Return a local path for a job's checkpoint; the last one that was saved, on any node, is fetched to it."""
        local = (self._files.local or self._scratch_folder()) / _checkpoint(key)
        if self._files.local is None and self._files.exists(_checkpoint(key)):
            self._files.fetch(_checkpoint(key), local)
        return local

    def keep_checkpoint(self, key: str, file: Path) -> None:
        """Copy a checkpoint just saved to `file` into the store; nothing to do where the store is a local folder."""
        if self._files.local is None:
            self._files.put(file, _checkpoint(key))

    def log_file(self, key: str) -> Path:
        """A local path for a job's log, which holds what earlier tries of this process left there."""
        file = (self._files.local or self._scratch_folder()) / _log(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def keep_log(self, key: str) -> None:
        """Bring a job's log into the store; an empty one is removed."""
        file = self.log_file(key)
        if not file.exists() or file.stat().st_size == 0:
            file.unlink(missing_ok=True)
        elif self._files.local is None:
            self._files.put(file, _log(key))

    def log(self, key: str) -> str:
        """Path or URI of a job's log; empty if it has none."""
        return self._files.location(_log(key)) if self._files.exists(_log(key)) else ""

    def try_writing(self, size: int) -> None:
        """Write a file of so many bytes and remove it again.

        Raises:
            StoreUnavailable: if it cannot be written.
        """
        probe = f"notes/{uuid.uuid4().hex}"
        try:
            self._files.write(probe, bytes(size))
        finally:
            if self._files.exists(probe):
                self._files.delete(probe)

    def leave_note(self, name: str, text: str) -> None:
        """Write a small file, by which processes find out whether they share the store."""
        self._files.write(f"notes/{name}", text.encode())

    def read_note(self, name: str) -> str | None:
        """Read a note; None if there is none of this name."""
        path = f"notes/{name}"
        return self._files.read(path).decode() if self._files.exists(path) else None

    def remove_notes(self, prefix: str) -> None:
        """Remove all notes whose names begin in this way."""
        for note in self._files.below("notes"):
            if note.path.startswith(f"notes/{prefix}"):
                self._files.delete(note.path)

    def _path(self, manifest: Manifest, name: str) -> str:
        path = f"{_folder(manifest.key)}/{manifest.attempt}/{name}"
        if not self._files.exists(path):
            raise DamagedArtifact(manifest.key, f"{name} is missing")
        return path

    def _delete_checkpoint(self, key: str) -> None:
        if self._files.exists(_checkpoint(key)):
            self._files.delete(_checkpoint(key))

    def _scratch_folder(self) -> Path:
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix=PREFIX)
            mark_owned(Path(self._scratch.name))  # a worker of Ray is killed at the end
        return Path(self._scratch.name)


def note_of_sent(key: str) -> str:
    """Name of the note that says how many images a job has sent to a service."""
    return f"{_SENT}{key}"


def sender_of(note: str) -> str:
    """Key of the job whose note of this kind it is; empty if it is another."""
    return note.removeprefix(_SENT) if note.startswith(_SENT) else ""


def _folder(key: str) -> str:
    return f"objects/{key[:2]}/{key}"


def _log(key: str) -> str:
    return f"logs/{key}.log"


def _checkpoint(key: str) -> str:
    return f"checkpoints/{key}.safetensors"


class _Readable(Protocol):
    """A binary file, of Python or of pyarrow."""

    def read(self, size: int, /) -> bytes: ...


def _sha256(stream: _Readable) -> str:
    total = hashlib.sha256()
    while block := stream.read(1 << 20):
        total.update(block)
    return total.hexdigest()
