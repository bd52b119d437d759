"""Addresses that name no cluster are refused within seconds, and an embedded Ray keeps to itself."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.errors import RequestError

pytestmark = pytest.mark.ray


@contextlib.contextmanager
def listener(answer: bytes | None) -> Iterator[str]:
    """HOST:PORT of a server that says the same to its one visitor; with None it accepts and is silent."""
    with socket.create_server(("", 0)) as server:  # Ray takes 127.0.0.1 for the address of this machine
        server.settimeout(30)

        def serve() -> None:
            visitor, _ = server.accept()
            with visitor, contextlib.suppress(ConnectionResetError):
                if answer is not None:
                    visitor.sendall(answer)
                visitor.settimeout(60)
                while visitor.recv(4096):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            thread.join()


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("ray://head:10001", "names a Ray Client server"),
        ("http://head:8265", "names the dashboard"),
        ("tcp://head:6379", "is not an address of a Ray head"),
        ("head", "Invalid address format: head"),
    ],
)
def test_an_address_of_something_else_is_refused_with_the_way_out(address: str, reason: str) -> None:
    from orchestrator.executors.ray.address import check_address

    with pytest.raises(RequestError) as refusal:
        check_address(address)
    assert str(refusal.value).startswith(f"--address {address}: {reason}")
    assert "give the head's HOST:PORT" in str(refusal.value)


def test_a_port_that_nobody_listens_at_is_refused_at_once() -> None:
    from orchestrator.executors.ray.cluster import connected

    address = f"127.0.0.1:{unused_port()}"
    with pytest.raises(RequestError, match=rf"--address {address}.*: nothing listens there"), connected(address):
        pass


def test_a_server_of_another_kind_is_no_head() -> None:
    from orchestrator.executors.ray.address import check_address

    with (
        listener(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address,
        pytest.raises(RequestError, match=rf"--address {address}.*: something listens there that is no Ray head"),
    ):
        check_address(address)


def test_a_head_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.executors.ray import address as module

    monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    with listener(None) as address, pytest.raises(RequestError, match=r"no answer within 0\.1 s: is the head still"):
        module.check_address(address)


def test_the_folder_of_an_embedded_ray_is_private_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.executors.ray.embedded import private_folder

    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    with private_folder() as folder:
        assert folder.parent.stat().st_mode & 0o777 == 0o700
        folder.mkdir()
        (folder / "log").touch()
    assert not folder.parent.exists()


def test_a_temporary_directory_with_a_long_name_gives_way_to_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.executors.ray.embedded import SESSION, private_folder

    long = tmp_path / ("scratch" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with private_folder() as folder:
        assert len(os.fsencode(folder)) + SESSION <= 107  # sun_path of unix(7) holds 108 bytes, a zero included
        assert folder.is_relative_to("/tmp")


def test_trials_get_no_credentials_in_their_runtime_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.tune.execution.class_cache import _ActorClassCache

    from orchestrator.executors.ray.thin_trial import ThinTrial

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    importlib.import_module("orchestrator.executors.ray.executor")
    actor = _ActorClassCache().get(ThinTrial)
    assert "hunter2" not in repr(actor._default_options)
