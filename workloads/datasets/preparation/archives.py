"""Published archives: downloaded once, continued where a download stopped, compared with their digest, and unpacked."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from workloads.core.errors import DataError

TIMEOUT_S = 60
"""Seconds after which a server that sends nothing counts as gone."""
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Archive:
    """A tar file on the web."""

    url: str
    file: str
    """Its name on disk."""
    sha256: str
    """SHA-256 of its bytes as published, 64 hexadecimal digits."""

    def unpack_into(self, folder: Path) -> None:
        """Download the archive into a folder, unless it lies there, unpack it there and remove it.

        What is unpacked appears when all of it is there. After a failure the same call goes on where it stopped.

        Raises:
            DataError: if it cannot be downloaded, or what lies there is not what was published.
            OSError: if the folder cannot be written to.
        """
        folder.mkdir(parents=True, exist_ok=True)
        archive = folder / self.file
        if not archive.exists():
            self._download(archive)
        self._check(archive)
        unpacked = folder / f".{self.file}.unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)
        with tarfile.open(archive) as opened:
            opened.extractall(unpacked, filter="data")
        for entry in unpacked.iterdir():
            entry.rename(folder / entry.name)
        unpacked.rmdir()
        archive.unlink()

    def _download(self, archive: Path) -> None:
        part = archive.with_name(f"{archive.name}.part")
        try:
            self._receive(part)
        except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", None) or str(error) or type(error).__name__
            raise DataError(
                f"{self.url} cannot be downloaded: {reason}. The same command goes on where it stopped; without a "
                f"network, put the file there as {archive}."
            ) from error
        part.rename(archive)

    def _check(self, archive: Path) -> None:
        with archive.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != self.sha256:
            raise DataError(
                f"{archive} is not what was published: its SHA-256 is {digest}, not {self.sha256}. Remove it to get "
                f"{self.url} again."
            )

    def _receive(self, part: Path) -> None:
        """Append to a part what the server has beyond it; a server that cannot continue sends everything again."""
        size = part.stat().st_size if part.exists() else 0
        request = Request(self.url, headers={"Range": f"bytes={size}-"} if size else {})
        try:
            with urlopen(request, timeout=TIMEOUT_S) as response:
                continues = response.status == HTTPStatus.PARTIAL_CONTENT
                with part.open("ab" if continues else "wb") as stream:
                    shutil.copyfileobj(response, stream, CHUNK_BYTES)
        except HTTPError as error:
            if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # else nothing is missing
                raise
