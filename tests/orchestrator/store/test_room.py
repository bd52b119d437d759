"""A store that is full in the middle of a sweep, by a disk that refuses to write as the kernel does."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from orchestrator.errors import StoreUnavailable
from orchestrator.executors import inline
from orchestrator.executors.failures import failure_of
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.files import StoreFiles
from orchestrator.store.ledger import Ledger, read_events
from orchestrator.store.room import want_of_room
from tests.support.toy import digests, finished_jobs, toy_sweep

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
ONE_TRIAL: dict[str, Any] = {"search": {"space": {}, "seeds": [0], "baseline": False}}


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        OSError(errno.EROFS, os.strerror(errno.EROFS)),
        StoreUnavailable("/store", FULL),
        SafetensorError('IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })'),
    ],
)
def test_what_a_full_disk_raises_is_not_the_jobs_fault(error: Exception) -> None:
    assert failure_of(error).cause == "storage"


def test_what_is_missing_is_said_with_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ArtifactStore(tmp_path)
    assert want_of_room(store, 1 << 20) == ""
    assert not list((tmp_path / "notes").iterdir()), "nothing is left of the try"

    def refuse(*arguments: object) -> None:
        raise StoreUnavailable(str(tmp_path), FULL)

    monkeypatch.setattr(StoreFiles, "write", refuse)
    monkeypatch.setattr("shutil.disk_usage", lambda path: _Disk(free=1 << 20))
    assert want_of_room(store, 5 << 20) == (
        f"{tmp_path} is full: 4 MiB are missing for the next result, 1 MiB are free."
    )


class _Disk:
    def __init__(self, free: int) -> None:
        self.free = free


def test_a_sweep_waits_for_room_and_then_ends_as_if_there_had_always_been_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = toy_sweep(tmp_path, tmp_path / "undisturbed", **ONE_TRIAL)
    undisturbed.run(inline.InlineExecutor(), spec_file=None)
    sweep, refusals, write = toy_sweep(tmp_path, tmp_path / "runs", **ONE_TRIAL), iter(range(3)), StoreFiles.write
    executor, troubles = inline.InlineExecutor(), []

    def write_or_refuse(files: StoreFiles, path: str, content: bytes) -> None:
        troubles.append(executor.snapshot().trouble)
        if next(refusals, None) is not None:
            raise StoreUnavailable(files.root, FULL)
        write(files, path, content)

    monkeypatch.setattr(inline, "LOOK_FOR_ROOM_EVERY_S", 0.0)
    monkeypatch.setattr(StoreFiles, "write", write_or_refuse)
    counts = sweep.run(executor, spec_file=None)
    assert (counts.trials_done, counts.jobs_failed, counts.trouble) == (1, 0, "")
    assert any("No job begins until it can be written to" in trouble for trouble in troubles)
    failures = [event for event in read_events(sweep.paths.ledger) if event["event"] == "job_failed"]
    assert [(event["cause"], event["final"]) for event in failures] == [("storage", False)]
    assert digests(sweep) == digests(undisturbed)
    assert set(finished_jobs(sweep).values()) == {1}


def test_a_ledger_on_a_full_disk_waits_and_holds_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, parts = os.write, iter([4, None])

    def write_a_part(file: int, line: bytes) -> int:
        part = next(parts)
        return write(file, line[:part])

    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        monkeypatch.setattr("orchestrator.store.ledger.LOOK_FOR_ROOM_EVERY_S", 0.0)
        monkeypatch.setattr(os, "write", write_a_part)
        ledger.append("happened", number=1)
        monkeypatch.undo()
        ledger.append("happened", number=2)
    assert [event["number"] for event in read_events(tmp_path / "ledger.jsonl")] == [1, 2]
