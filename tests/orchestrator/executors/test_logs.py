"""The log of a run and the logs of its jobs."""

from __future__ import annotations

import json
import logging
import os
import time
import warnings
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.cli.running import run_watched
from orchestrator.executors.inline import InlineExecutor
from orchestrator.executors.logs import job_log, run_log
from orchestrator.store.artifacts import ArtifactStore
from tests.support.toy import toy_sweep

KEY = "a" * 64


def log_of(store: ArtifactStore) -> str:
    return Path(store.log(KEY)).read_text(encoding="utf-8")


def test_a_jobs_log_has_its_warnings_its_stderr_and_why_it_failed(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    with pytest.raises(ValueError), job_log(store, KEY, timeout_s=None, takes_stderr=True):
        warnings.warn("numbers are small", stacklevel=1)
        logging.getLogger("a.library").warning("slow")
        os.write(2, b"said by a library in C\n")
        raise ValueError("this is why")
    text = log_of(store)
    for part in ("numbers are small", "WARNING a.library: slow", "said by a library in C", "ValueError: this is why"):
        assert part in text


def test_a_job_with_nothing_to_say_leaves_no_log(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    with job_log(store, KEY, timeout_s=None, takes_stderr=True):
        pass
    assert store.log(KEY) == ""


def test_a_job_that_hangs_leaves_the_stacks_of_its_threads(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    with job_log(store, KEY, timeout_s=0.05, takes_stderr=False):
        deadline = time.monotonic() + 10
        while "most recent call first" not in store.log_file(KEY).read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "test_a_job_that_hangs_leaves_the_stacks_of_its_threads" in log_of(store)


def test_the_log_of_a_run_hides_passwords(tmp_path: Path) -> None:
    with run_log(tmp_path / "midre.log"):
        logging.getLogger("a.library").warning("no answer from https://me:secret@host/path")
    assert "https://***@host/path" in (tmp_path / "midre.log").read_text(encoding="utf-8")


def test_a_run_logs_what_happened_and_tells_the_command_of_its_end(tmp_path: Path) -> None:
    """A prior of a thousand steps does not fit its time, so every trial fails."""
    told = tmp_path / "told"
    command = tmp_path / "notify.sh"
    command.write_text(f'#!/bin/sh\ncat > "{told}"\necho "$MIDRE_STATUS" >> "{told}"\n', encoding="utf-8")
    command.chmod(0o700)
    prior = {"kind": "wgan_gp", "width": 2, "steps": 100_000, "batch_size": 8, "latent_size": 8}
    limits = {"fit_prior": {"timeout_s": 0.3}}
    search = {"space": {}, "seeds": [0], "baseline": False}
    changes = {"prior": prior, "resources": limits, "search": search, "on_end": str(command)}
    sweep = toy_sweep(tmp_path, tmp_path / "runs", **changes)
    run_watched(sweep, InlineExecutor(), spec_file=None, started=time.monotonic(), console=Console(quiet=True))
    log = sweep.paths.log.read_text(encoding="utf-8")
    (trial,) = sweep.state().trials
    assert f"trial {trial}: started" in log
    assert f"of trial {trial}: done in" in log
    assert "failed: timeout: JobTimeout: took longer than timeout_s: 0.3" in log
    summary, status = told.read_text(encoding="utf-8").splitlines()
    assert json.loads(summary)["sweep"] == sweep.id
    assert status == "1"


def test_a_command_of_the_end_that_fails_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from orchestrator.cli.running import tell

    tell("no-such-command", {}, 0, Console())
    assert capsys.readouterr().out.splitlines() == ["on_end: [Errno 2] No such file or directory: 'no-such-command'"]
