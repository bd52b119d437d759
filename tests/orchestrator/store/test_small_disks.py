"""Stores on real disks that are too small or can only be read: refused before the first job, in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.store.ledger import read_events
from orchestrator.store.paths import RunPaths
from tests.support.toy import write_spec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system"),
]
ONE_TRIAL: dict[str, Any] = {"search": {"space": {}, "seeds": [0], "baseline": False}}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory with room for one run."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def run(tmp_path: Path, disk: Path, seed: int) -> tuple[int, str]:
    """Exit status of a run whose store lies on a disk, and what it says."""
    spec = write_spec(tmp_path, **ONE_TRIAL | {"storage": {"artifacts": str(disk)}})
    settings = ["--set", f"search.seeds=[{seed}]"]
    command = [sys.executable, "-m", "orchestrator", "run", str(spec), "--runs", str(tmp_path / "runs")]
    result = subprocess.run([*command, "--executor", "inline", *settings], capture_output=True, text=True)
    return result.returncode, result.stderr


def jobs_started(tmp_path: Path) -> int:
    ledgers = [RunPaths(folder).ledger for folder in (tmp_path / "runs").iterdir()]
    return sum(event["event"] == "job_started" for ledger in ledgers for event in read_events(ledger))


def test_a_run_that_needs_more_than_is_free_is_refused_with_both_numbers(tmp_path: Path, disk: Path) -> None:
    assert run(tmp_path, disk, seed=0)[0] == 0
    before = jobs_started(tmp_path)
    usage = os.statvfs(disk)
    (disk / "ballast").write_bytes(bytes(usage.f_bavail * usage.f_frsize - (1 << 14)))
    status, said = run(tmp_path, disk, seed=1)
    assert status == 2
    assert said.count("MiB") == 2
    assert f"{disk}: this run will write about" in said
    assert "midre gc" in said
    assert jobs_started(tmp_path) == before


def test_a_store_that_can_only_be_read_is_refused_unless_all_is_done(tmp_path: Path, disk: Path) -> None:
    assert run(tmp_path, disk, seed=0)[0] == 0
    before = jobs_started(tmp_path)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    status, said = run(tmp_path, disk, seed=1)
    assert (status, jobs_started(tmp_path)) == (2, before)
    assert f"{disk}: the artifact store cannot be used" in said
    assert "Read-only file system" in said
    assert run(tmp_path, disk, seed=0)[0] == 0
