"""The artifact store: a local folder and a remote file system pass the same tests."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path

import pytest
from pyarrow import fs

from orchestrator.errors import DamagedArtifact, StoreUnavailable
from orchestrator.store.artifacts import ArtifactStore

KEY = "ab" * 32


@pytest.fixture(params=["folder", "remote"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    if request.param == "folder":
        return ArtifactStore(tmp_path / "store")
    # Wrapped, so that the store does not see that it is local, and copies everything as it does for an object store.
    (tmp_path / "remote").mkdir()
    remote = fs.SubTreeFileSystem(str(tmp_path / "remote"), fs.LocalFileSystem())
    return ArtifactStore("bucket", filesystem=remote)


def put(store: ArtifactStore, text: str = "hello") -> None:
    folder = store.new_attempt(KEY)
    (folder / "result.txt").write_text(text)
    store.commit(KEY, "probe", folder, {"seconds": 1.0})


def stored(tmp_path: Path) -> Path:
    return next(tmp_path.rglob("objects/ab/*/*/result.txt"))


def test_files_that_were_committed_are_read_back(store: ArtifactStore) -> None:
    put(store)
    assert (store.open(KEY) / "result.txt").read_text() == "hello"


def test_the_manifest_holds_the_digest_of_every_file(store: ArtifactStore) -> None:
    put(store)
    manifest = store.verified(KEY)
    assert manifest is not None
    assert manifest.files["result.txt"].sha256 == hashlib.sha256(b"hello").hexdigest()


def test_an_attempt_that_was_not_committed_is_not_an_artifact(store: ArtifactStore) -> None:
    (store.new_attempt(KEY) / "result.txt").write_text("half")
    assert store.manifest(KEY) is None


def test_a_changed_file_is_noticed_on_reading(store: ArtifactStore, tmp_path: Path) -> None:
    put(store)
    stored(tmp_path).write_text("hellO")
    with pytest.raises(DamagedArtifact, match=r"result\.txt has SHA-256"):
        store.open(KEY)


def test_a_changed_number_is_noticed_on_reading(store: ArtifactStore, tmp_path: Path) -> None:
    put(store, "1.5")
    assert store.read_json(KEY, "result.txt") == 1.5
    stored(tmp_path).write_text("2.5")
    with pytest.raises(DamagedArtifact, match=r"result\.txt is not what its manifest says"):
        store.read_json(KEY, "result.txt")


def test_artifacts_with_the_same_bytes_have_the_same_digest_and_no_others(store: ArtifactStore) -> None:
    digests = []
    for text in ("first", "first", "second"):
        put(store, text)
        manifest = store.manifest(KEY)
        assert manifest is not None
        digests.append(manifest.digest())
    assert digests[0] == digests[1] != digests[2]


def test_a_missing_file_is_noticed_on_reading(store: ArtifactStore, tmp_path: Path) -> None:
    put(store)
    stored(tmp_path).unlink()
    with pytest.raises(DamagedArtifact, match=r"result\.txt is missing"):
        store.verified(KEY)


def test_a_download_that_broke_off_is_started_again(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store)

    def fail(*arguments: object, **options: object) -> None:
        raise OSError("connection lost")

    with monkeypatch.context() as patch, contextlib.suppress(StoreUnavailable):
        patch.setattr(fs, "copy_files", fail)
        store.open(KEY)
    assert (store.open(KEY) / "result.txt").read_text() == "hello"


def test_a_damaged_artifact_set_aside_makes_room_and_is_kept(store: ArtifactStore, tmp_path: Path) -> None:
    put(store, "bad")
    store.set_aside(KEY)
    assert store.manifest(KEY) is None
    assert [file.read_text() for file in tmp_path.rglob("damaged/*/*/result.txt")] == ["bad"]


def test_an_artifact_that_is_not_there_needs_no_setting_aside(store: ArtifactStore) -> None:
    store.set_aside(KEY)
    assert store.manifest(KEY) is None


def test_a_checkpoint_outlives_the_process_that_saved_it_and_goes_with_the_commit(store: ArtifactStore) -> None:
    file = store.checkpoint_file(KEY)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"state")
    store.keep_checkpoint(KEY, file)
    assert store.checkpoint_file(KEY).read_bytes() == b"state"
    put(store)
    file.unlink(missing_ok=True)
    assert not store.checkpoint_file(KEY).exists()


def put_shaped(store: ArtifactStore, key: str, shape: str) -> None:
    store.commit(key, "probe", store.new_attempt(key), {"shape": shape})


def test_the_job_of_a_shape_that_finished_last_is_found(store: ArtifactStore) -> None:
    put_shaped(store, KEY, "large")
    put_shaped(store, "cd" * 32, "small")
    put_shaped(store, "ef" * 32, "large")
    latest = store.latest_of("large")
    assert latest is not None
    assert latest.key == "ef" * 32
    assert store.latest_of("unheard of") is None
    assert store.latest_of("") is None


def test_a_job_of_a_shape_that_was_set_aside_is_not_found(store: ArtifactStore) -> None:
    put_shaped(store, KEY, "large")
    store.set_aside(KEY)
    assert store.latest_of("large") is None


def test_a_note_is_read_back_until_it_is_removed(store: ArtifactStore) -> None:
    store.leave_note("abc-1", "hello")
    store.leave_note("other", "stays")
    assert (store.read_note("abc-1"), store.read_note("abc-2")) == ("hello", None)
    store.remove_notes("abc")
    assert (store.read_note("abc-1"), store.read_note("other")) == (None, "stays")


def test_where_the_umask_lets_the_group_write_it_can_write_all_of_the_store(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        put(ArtifactStore(tmp_path / "store"))
    finally:
        os.umask(before)
    unshared = [path for path in (tmp_path / "store").rglob("*") if not path.stat().st_mode & stat.S_IWGRP]
    assert unshared == []
