"""The artifact store on a real S3 server on loopback."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from orchestrator.errors import StoreUnavailable
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.sweep import Sweep
from tests.support.toy import toy_sweep

KEY = "ab" * 32


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of an S3 server, in a thread of this process."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """URI of a bucket of the test's own."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anybody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    name = re.sub("[^a-z0-9]", "-", request.node.name.lower())[:60].strip("-")
    boto3.client("s3", endpoint_url=f"http://{server}").create_bucket(Bucket=name)
    return f"s3://{name}/store?endpoint_override={server}&scheme=http"


def put(store: ArtifactStore, content: bytes) -> None:
    folder = store.new_attempt(KEY)
    (folder / "result.bin").write_bytes(content)
    store.commit(KEY, "probe", folder, {"seconds": 1.0})


def test_a_file_of_several_parts_comes_back_on_another_machine(bucket: str) -> None:
    content = bytes(range(256)) * (1 << 16)  # 16 MiB: above the 5 MiB that S3 takes in one part of an upload
    put(ArtifactStore(bucket), content)
    assert (ArtifactStore(bucket).open(KEY) / "result.bin").read_bytes() == content


def test_of_two_writers_of_one_key_one_is_the_artifact_and_it_is_whole(bucket: str) -> None:
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda number: put(ArtifactStore(bucket), bytes([number]) * 1000), (1, 2)))
    manifest = ArtifactStore(bucket).verified(KEY)  # checks every digest
    assert manifest is not None
    assert (ArtifactStore(bucket).open(KEY) / "result.bin").read_bytes() in (b"\1" * 1000, b"\2" * 1000)


def test_a_listing_of_more_than_a_page_is_whole(bucket: str, server: str) -> None:
    store, name = ArtifactStore(bucket), bucket.removeprefix("s3://").partition("/")[0]
    client = boto3.client("s3", endpoint_url=f"http://{server}")
    for number in range(1001):  # S3 lists 1000 at a time
        client.put_object(Bucket=name, Key=f"store/notes/{number}", Body=b"")
    assert len(store.files.below("notes")) == 1001


def test_a_checkpoint_is_found_by_another_machine_until_the_job_is_done(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_bytes(b"half")
    ArtifactStore(bucket).keep_checkpoint(KEY, tmp_path / "checkpoint")
    other = ArtifactStore(bucket)
    assert other.checkpoint_file(KEY).read_bytes() == b"half"
    put(other, b"whole")
    assert not ArtifactStore(bucket).checkpoint_file(KEY).exists()


def test_a_store_that_cannot_be_reached_is_said_in_a_line(bucket: str, server: str) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        ArtifactStore(f"s3://nobody-made-this/store?endpoint_override={server}&scheme=http")
    assert "'nobody-made-this' not found" in str(caught.value)
    assert "credentials in the environment" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sweep_on_an_object_store_has_the_numbers_of_one_on_a_disk(bucket: str, tmp_path: Path) -> None:
    from orchestrator.executors.inline import InlineExecutor

    def numbers(sweep: Sweep) -> list[dict[str, float]]:
        sweep.run(InlineExecutor(), spec_file=None)
        return [{name: trial.value(name) for name in trial.estimates()} for trial in sweep.result().trials]

    remote = toy_sweep(tmp_path, tmp_path / "remote", storage={"artifacts": bucket})
    assert numbers(remote) == numbers(toy_sweep(tmp_path, tmp_path / "local"))
    assert not (tmp_path / "remote" / "store").exists()
    assert "hunter2" not in remote.paths.resolved.read_text() + remote.paths.ledger.read_text()
