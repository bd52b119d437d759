"""What `midre gc` may remove from a store, and what it must leave."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from orchestrator.store.artifacts import ArtifactStore, note_of_sent
from orchestrator.store.garbage import Reason, garbage, remove

USED, UNUSED = "aa" * 32, "bb" * 32
LATER = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    store = ArtifactStore(tmp_path)
    for key in (USED, UNUSED):
        put(store, key)
    return store


def put(store: ArtifactStore, key: str) -> None:
    folder = store.new_attempt(key)
    (folder / "result.txt").write_text("12345")
    store.commit(key, "probe", folder, {"seconds": 1.0})


def checkpoint(store: ArtifactStore, key: str) -> None:
    file = store.checkpoint_file(key)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"123")


def reasons(store: ArtifactStore) -> dict[str, Reason]:
    return {item.path: item.reason for item in garbage(store, referenced={USED}, before=LATER)}


def test_results_that_no_run_refers_to_are_garbage_and_those_of_a_run_are_not(store: ArtifactStore) -> None:
    assert reasons(store) == {f"objects/bb/{UNUSED}": Reason.unused}


def test_what_was_written_lately_is_left(store: ArtifactStore) -> None:
    hour_ago = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    assert garbage(store, referenced={USED}, before=hour_ago) == []


def test_an_attempt_beside_the_one_that_was_committed_is_garbage(store: ArtifactStore) -> None:
    attempt = store.new_attempt(USED)
    (attempt / "result.txt").write_text("half")
    assert reasons(store)[f"objects/aa/{USED}/{attempt.name}"] is Reason.broken_off


def test_a_checkpoint_goes_once_its_job_is_done_or_no_run_has_it(store: ArtifactStore) -> None:
    under_way = "cc" * 32
    for key in (USED, "dd" * 32, under_way):
        checkpoint(store, key)
    reason_of = {
        item.path: item.reason
        for item in garbage(store, referenced={USED, under_way}, before=LATER)
        if item.path.startswith("checkpoints")
    }
    assert reason_of == {
        f"checkpoints/{USED}.safetensors": Reason.finished,
        f"checkpoints/{'dd' * 32}.safetensors": Reason.abandoned,
    }


def test_logs_and_notes_of_jobs_that_no_run_has_are_garbage_and_so_are_those_of_processes_that_ended(
    store: ArtifactStore,
) -> None:
    for key in (USED, UNUSED):
        store.log_file(key).write_text("a warning")
        store.leave_note(note_of_sent(key), "50")
    store.leave_note("b" * 32, "written to see whether a node shares the store")
    lines = {path: reason for path, reason in reasons(store).items() if not path.startswith("objects")}
    assert lines == {
        f"logs/{UNUSED}.log": Reason.log,
        f"notes/sent-{UNUSED}": Reason.note,
        f"notes/{'b' * 32}": Reason.note,
    }


def test_a_damaged_artifact_is_left_to_its_job_and_a_copy_set_aside_goes(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / f"objects/aa/{USED}/manifest.json").write_text("{")
    assert all(USED not in path for path in reasons(store))
    store.set_aside(USED)
    assert Reason.damaged in reasons(store).values()


def test_what_is_removed_is_gone_and_all_else_is_there(store: ArtifactStore) -> None:
    remove(store, garbage(store, referenced={USED}, before=LATER))
    assert store.manifest(UNUSED) is None
    assert store.verified(USED) is not None


def test_sizes_are_those_of_the_files(store: ArtifactStore, tmp_path: Path) -> None:
    files = [file for file in (tmp_path / f"objects/bb/{UNUSED}").rglob("*") if file.is_file()]
    [item] = garbage(store, referenced={USED}, before=LATER)
    assert (item.files, item.bytes) == (2, sum(file.stat().st_size for file in files))
