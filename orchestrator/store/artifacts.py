"""The content-addressed store: what finished jobs leave, committed by a manifest with digests, never changed after.

An artifact's files lie in a folder of their own attempt; the manifest names that folder and is moved into place
last, so a job killed at any moment leaves nothing that reads as finished, on a local disk and on an object store alike.
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
from typing import Any

from pyarrow import fs

from orchestrator.errors import DamagedArtifact

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class StoredFile:
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """What an artifact is: files with digests, the job that made it, and facts about its making."""

    key: str
    kind: str
    attempt: str
    files: Mapping[str, StoredFile]
    facts: Facts
    """Seconds, where it ran, versions: about the making, never part of a result."""

    @staticmethod
    def from_json(text: str) -> Manifest:
        data = json.loads(text)
        files = {name: StoredFile(**file) for name, file in data.pop("files").items()}
        return Manifest(files=files, **data)

    def digest(self) -> str:
        """SHA-256 over names and digests of all files."""
        lines = "".join(f"{name} {file.sha256}\n" for name, file in sorted(self.files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()


class ArtifactStore:
    """Artifacts by key under a folder, or under any URI that pyarrow can open (s3://, gs://, file://).

    Several processes may use one store at once: keys name results, so two writers of one key wrote the same.
    """

    def __init__(self, root: str | Path, *, filesystem: fs.FileSystem | None = None) -> None:
        self.root = str(root)
        if filesystem is not None:
            base, path = filesystem, self.root
        elif "://" in self.root:
            base, path = fs.FileSystem.from_uri(self.root)
        else:
            base, path = fs.LocalFileSystem(), str(Path(root).expanduser().absolute())
            self.root = path
        base.create_dir(path, recursive=True)
        self._fs = fs.SubTreeFileSystem(path, base)
        self._local = Path(path) if isinstance(base, fs.LocalFileSystem) else None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def location(self, manifest: Manifest) -> str:
        """Where an artifact's files lie, for people and for other tools."""
        return f"{self.root.rstrip('/')}/{_folder(manifest.key)}/{manifest.attempt}"

    def manifest(self, key: str) -> Manifest | None:
        """The manifest of a finished artifact, its files unchecked; None where there is none.

        Raises:
            DamagedArtifact: if it cannot be read.
        """
        path = f"{_folder(key)}/manifest.json"
        if self._fs.get_file_info(path).type == fs.FileType.NotFound:
            return None
        with self._fs.open_input_stream(path) as stream:
            text = stream.read()
        try:
            return Manifest.from_json(text.decode())
        except (ValueError, TypeError, KeyError) as error:
            raise DamagedArtifact(key, f"its manifest cannot be read: {error}") from error

    def verified(self, key: str) -> Manifest | None:
        """The manifest of a finished artifact whose files are all there, byte for byte; None where there is none.

        Raises:
            DamagedArtifact: if a file is missing or is not what the manifest says.
        """
        manifest = self.manifest(key)
        for name, file in manifest.files.items() if manifest else ():
            path = f"{_folder(key)}/{manifest.attempt}/{name}" if manifest else ""
            if self._fs.get_file_info(path).type == fs.FileType.NotFound:
                raise DamagedArtifact(key, f"{name} is missing")
            with self._fs.open_input_stream(path) as stream:
                found = _sha256(stream)
            if found != file.sha256:
                raise DamagedArtifact(key, f"{name} has SHA-256 {found[:12]}, its manifest says {file.sha256[:12]}")
        return manifest

    def open(self, key: str) -> Path:
        """A local folder with the files of a finished artifact, checked against their digests.

        Raises:
            DamagedArtifact: if there is none, or a file is not what the manifest says.
        """
        manifest = self.verified(key)
        if manifest is None:
            raise DamagedArtifact(key, "it is not in the store")
        inside = f"{_folder(key)}/{manifest.attempt}"
        if self._local is not None:
            return self._local / inside
        folder = self._scratch_folder() / inside
        if not folder.exists():
            folder.mkdir(parents=True)
            fs.copy_files(inside, str(folder), source_filesystem=self._fs, destination_filesystem=fs.LocalFileSystem())
        return folder

    def read_json(self, key: str, name: str) -> Any:
        """A JSON file of a finished artifact, checked against its digest.

        Raises:
            DamagedArtifact: if it is missing or is not what the manifest says.
        """
        manifest = self.manifest(key)
        if manifest is None or name not in manifest.files:
            raise DamagedArtifact(key, f"{name} is not in the store")
        path = f"{_folder(key)}/{manifest.attempt}/{name}"
        if self._fs.get_file_info(path).type == fs.FileType.NotFound:
            raise DamagedArtifact(key, f"{name} is missing")
        with self._fs.open_input_stream(path) as stream:
            data = stream.read()
        if hashlib.sha256(data).hexdigest() != manifest.files[name].sha256:
            raise DamagedArtifact(key, f"{name} is not what its manifest says")
        return json.loads(data)

    def new_attempt(self, key: str) -> Path:
        """An empty local folder for a job to write into, to be given to `commit`."""
        inside = f"{_folder(key)}/{uuid.uuid4().hex[:12]}"
        folder = (self._local or self._scratch_folder()) / inside
        folder.mkdir(parents=True)
        return folder

    def commit(self, key: str, kind: str, folder: Path, facts: Facts) -> Manifest:
        """Make what lies in `folder`, from `new_attempt`, the artifact of `key`."""
        files = {}
        for path in sorted(folder.iterdir()):
            with path.open("rb") as stream:
                files[path.name] = StoredFile(_sha256(stream), path.stat().st_size)
        manifest = Manifest(key, kind, folder.name, files, facts)
        target = f"{_folder(key)}/{folder.name}"
        if self._local is None:
            self._fs.create_dir(target, recursive=True)
            fs.copy_files(str(folder), target, source_filesystem=fs.LocalFileSystem(), destination_filesystem=self._fs)
        aside = f"{_folder(key)}/manifest.{folder.name}.tmp"
        with self._fs.open_output_stream(aside) as stream:
            stream.write(json.dumps(asdict(manifest), indent=1, sort_keys=True).encode())
        self._fs.move(aside, f"{_folder(key)}/manifest.json")
        self._delete_checkpoint(key)
        if self._local is None:
            shutil.rmtree(folder)
        return manifest

    def set_aside(self, key: str) -> str:
        """Move a damaged artifact out of the way, keeping it for whoever wants to know; where it is now."""
        target = f"damaged/{key[:16]}-{time.time_ns()}"
        if self._fs.get_file_info(_folder(key)).type != fs.FileType.NotFound:  # as it is on a store that is not shared
            # Copied, since an object store has no folders to move.
            fs.copy_files(_folder(key), target, source_filesystem=self._fs, destination_filesystem=self._fs)
            self._fs.delete_dir(_folder(key))
        return f"{self.root.rstrip('/')}/{target}"

    def checkpoint_file(self, key: str) -> Path:
        """A local path for a job's checkpoint, holding the last one saved, wherever that was."""
        local = (self._local or self._scratch_folder()) / _checkpoint(key)
        if self._local is None and self._fs.get_file_info(_checkpoint(key)).type != fs.FileType.NotFound:
            local.parent.mkdir(parents=True, exist_ok=True)
            fs.copy_files(
                _checkpoint(key), str(local), source_filesystem=self._fs, destination_filesystem=fs.LocalFileSystem()
            )
        return local

    def keep_checkpoint(self, key: str, file: Path) -> None:
        """Make a checkpoint just saved to `file` outlive this node; nothing to do where the store is a folder."""
        if self._local is None:
            self._fs.create_dir("checkpoints", recursive=True)
            fs.copy_files(
                str(file), _checkpoint(key), source_filesystem=fs.LocalFileSystem(), destination_filesystem=self._fs
            )

    def _delete_checkpoint(self, key: str) -> None:
        if self._fs.get_file_info(_checkpoint(key)).type != fs.FileType.NotFound:
            self._fs.delete_file(_checkpoint(key))

    def _scratch_folder(self) -> Path:
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="midre-")
        return Path(self._scratch.name)


def _folder(key: str) -> str:
    return f"objects/{key[:2]}/{key}"


def _checkpoint(key: str) -> str:
    return f"checkpoints/{key}.safetensors"


def _sha256(stream: Any) -> str:
    total = hashlib.sha256()
    while block := stream.read(1 << 20):
        total.update(block)
    return total.hexdigest()
