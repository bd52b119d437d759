"""Downloads of published archives, from a server in this process."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from workloads.core.errors import DataError
from workloads.datasets.preparation.archives import Archive


def tar(*names: str) -> bytes:
    """A compressed tar file of small files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name.encode()))
    return buffer.getvalue()


DATA = tar("faces/ann/0.jpg", "faces/bob/0.jpg")


@dataclass
class Server:
    """Serves `DATA`, and remembers which byte each request began at."""

    url: str = ""
    continues: bool = True
    """Whether it can send the rest of a file."""
    starts: list[int] = field(default_factory=list)

    def archive(self, data: bytes = DATA) -> Archive:
        return Archive(self.url, "faces.tgz", hashlib.sha256(data).hexdigest())


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(requested[1]) if requested and served.continues else 0
            served.starts.append(start)
            if start >= len(DATA):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(DATA) - start))
            self.end_headers()
            self.wfile.write(DATA[start:])

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        served.url = f"http://127.0.0.1:{listening.server_port}/faces.tgz"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        listening.shutdown()
        thread.join()


def files(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def test_an_archive_is_downloaded_and_unpacked_and_nothing_else_stays(server: Server, tmp_path: Path) -> None:
    server.archive().unpack_into(tmp_path / "new")
    assert files(tmp_path / "new") == ["faces/ann/0.jpg", "faces/bob/0.jpg"]
    assert server.starts == [0]


@pytest.mark.parametrize(("continues", "start"), [(True, 100), (False, 0)])
def test_a_download_that_stopped_goes_on(server: Server, tmp_path: Path, continues: bool, start: int) -> None:
    server.continues = continues
    (tmp_path / "faces.tgz.part").write_bytes(DATA[:100])
    server.archive().unpack_into(tmp_path)
    assert server.starts == [start]
    assert files(tmp_path) == ["faces/ann/0.jpg", "faces/bob/0.jpg"]


def test_a_part_that_is_the_whole_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "faces.tgz.part").write_bytes(DATA)
    server.archive().unpack_into(tmp_path)
    assert files(tmp_path) == ["faces/ann/0.jpg", "faces/bob/0.jpg"]


def test_an_archive_that_was_put_there_is_unpacked_without_a_network(tmp_path: Path) -> None:
    (tmp_path / "faces.tgz").write_bytes(DATA)
    Archive("http://127.0.0.1:1/", "faces.tgz", hashlib.sha256(DATA).hexdigest()).unpack_into(tmp_path)
    assert files(tmp_path) == ["faces/ann/0.jpg", "faces/bob/0.jpg"]


def test_another_archive_than_was_published_is_not_unpacked(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not what was published: its SHA-256 is [0-9a-f]{64}, not [0-9a-f]{64}"):
        server.archive(b"other").unpack_into(tmp_path)
    assert files(tmp_path) == ["faces.tgz"]


def test_a_server_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        Archive("http://127.0.0.1:1/f.tgz", "f.tgz", "").unpack_into(tmp_path)
    assert str(caught.value) == (
        "http://127.0.0.1:1/f.tgz cannot be downloaded: [Errno 111] Connection refused. The same command goes on where "
        f"it stopped; without a network, put the file there as {tmp_path}/f.tgz."
    )
