"""Leases by which sweeps that share a store compute each job once: with a clock of the test, and with two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.executors.inline import InlineExecutor
from orchestrator.store.files import StoreFiles
from orchestrator.store.leases import STALE_AFTER_S, Leases
from orchestrator.store.owners import Owner
from tests.support.processes import PATIENCE_S
from tests.support.toy import finished_jobs, toy_sweep

KEY = "a" * 64
THERE = Owner("leopard", 17, 1)
HERE = Owner("tiger", 4, 1)


class Clock:
    """Stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_one_process_at_a_time_has_a_lease(tmp_path: Path) -> None:
    there, here = (Leases(StoreFiles(tmp_path), owner, Clock()) for owner in (THERE, HERE))
    assert there.take(KEY) == ""
    assert here.take(KEY) == "process 17 on leopard"
    there.release(KEY)
    assert here.take(KEY) == ""


def test_a_lease_that_does_not_change_for_a_minute_is_taken_over(tmp_path: Path) -> None:
    clock = Clock()
    there, here = (Leases(StoreFiles(tmp_path), owner, clock) for owner in (THERE, HERE))
    there.take(KEY)
    assert here.take(KEY)
    clock.now = STALE_AFTER_S
    there.renew()
    assert here.take(KEY), "it has changed"
    clock.now = 2 * STALE_AFTER_S
    assert here.take(KEY), "a minute of its own has not yet gone by"
    clock.now = 2 * STALE_AFTER_S + 1
    assert here.take(KEY) == ""


def test_the_lease_of_a_process_of_this_machine_that_has_ended_is_taken_over_at_once(tmp_path: Path) -> None:
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    me = Owner.this_process()
    gone = replace(me, pid=int(child.stdout))
    Leases(StoreFiles(tmp_path), gone).take(KEY)
    assert Leases(StoreFiles(tmp_path), HERE).take(KEY) == ""


def test_a_number_that_was_given_to_another_process_is_not_the_owner() -> None:
    me = Owner.this_process()
    assert not me.is_gone()
    assert replace(me, started=me.started + 1).is_gone()
    assert not replace(me, host="leopard", started=me.started + 1).is_gone(), "nobody can tell from here"


def test_a_lease_that_cannot_be_read_holds_nobody_up(tmp_path: Path) -> None:
    files = StoreFiles(tmp_path)
    files.write(f"leases/{KEY}.json", b"half")
    assert Leases(files, HERE).take(KEY) == ""


@pytest.mark.slow
def test_two_sweeps_at_once_on_one_store_compute_each_job_that_they_share_once(tmp_path: Path) -> None:
    store = {"storage": {"artifacts": str(tmp_path / "store")}}
    prior = {"prior": {"kind": "wgan_gp", "width": 2, "steps": 30, "batch_size": 8, "latent_size": 8}}
    search: dict[str, Any] = {"space": {}, "seeds": [0]}
    names = ("first", "second")
    sweeps = []
    for name in names:
        (tmp_path / name).mkdir()
        sweeps.append(toy_sweep(tmp_path / name, tmp_path / "runs", name=name, search=search, **prior, **store))
    command = [sys.executable, "-m", "orchestrator", "run", "--executor", "inline", "--runs", str(tmp_path / "runs")]
    runs = [
        subprocess.Popen([*command, str(tmp_path / name / "toy.yaml")], stdout=subprocess.DEVNULL, env=dict(os.environ))
        for name in names
    ]
    assert [run.wait(PATIENCE_S) for run in runs] == [0, 0]
    computed = finished_jobs(sweeps[0]) + finished_jobs(sweeps[1])
    jobs = {job.key for sweep in sweeps for plan in sweep.plans() for job in plan.jobs}
    assert computed == dict.fromkeys(jobs, 1)
    assert sweeps[0].run(InlineExecutor(), spec_file=None).jobs_run == 0
    assert not list((tmp_path / "store" / "leases").iterdir())
