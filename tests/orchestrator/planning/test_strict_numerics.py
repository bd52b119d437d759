"""Strict numerics: results of two kinds of machine, or with other threads, never have one key."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.executors.inline import InlineExecutor
from orchestrator.rerun import OriginalRun
from orchestrator.store.ledger import read_events
from orchestrator.sweep import Sweep
from tests.support.toy import finished_jobs, toy_sweep
from workloads.core import numerics
from workloads.core.errors import OtherMachineError
from workloads.core.numerics import MachineKind

CPU, GPU = torch.device("cpu"), torch.device("cuda")
PLANNED = MachineKind(processor="A", cores=4, gpu="H", torch_version="2.0", installed_gpus=2)


def keys(sweep: Sweep) -> set[str]:
    return {job.key for plan in sweep.plans() for job in plan.jobs}


def strict(folder: Path, **changes: Any) -> Sweep:
    return toy_sweep(folder, folder / "runs", numerics="strict", **changes)


def on_machine(sweep: Sweep, **changes: Any) -> Sweep:
    """The sweep as another machine would have planned it."""
    assert sweep.resolved.machine is not None
    machine = sweep.resolved.machine.model_copy(update=changes)
    return Sweep(sweep.resolved.model_copy(update={"machine": machine}), sweep.workspace)


def test_no_key_is_shared_with_another_machine_or_with_a_sweep_that_is_not_strict(tmp_path: Path) -> None:
    here = strict(tmp_path)
    changes: list[dict[str, Any]] = [{"processor": "Z80"}, {"cores": 999}, {"gpu": "Voodoo"}, {"installed_gpus": 99}]
    changes.append({"torch_version": "0.1"})
    sweeps = [here, toy_sweep(tmp_path, tmp_path / "runs"), *(on_machine(here, **change) for change in changes)]
    all_keys = [key for sweep in sweeps for key in keys(sweep)]
    assert len(all_keys) == len(set(all_keys)) == 7 * len(keys(here))
    assert len({sweep.id for sweep in sweeps}) == 7


@pytest.mark.parametrize("resources", [{"cpus": 2}, {"gpus": 1}, {"memory_gb": 0.5}])
def test_threads_and_batches_are_part_of_the_keys_of_their_kind_of_job_and_of_what_reads_it(
    tmp_path: Path, resources: dict[str, Any]
) -> None:
    two = strict(tmp_path, resources={"run_attack": resources})
    changed = {job.kind for plan in two.plans() for job in plan.jobs if job.key not in keys(strict(tmp_path))}
    assert changed == {"run_attack", "evaluate_attack"}


def test_keys_of_a_machine_without_gpus_are_those_from_before_they_were_counted(tmp_path: Path) -> None:
    sweep = on_machine(strict(tmp_path), installed_gpus=0)
    machines = [job.machine for plan in sweep.plans() for job in plan.jobs]
    assert all(machine is not None and "installed_gpus" not in machine for machine in machines)


def test_recorded_numerics_leave_keys_as_they_are(tmp_path: Path) -> None:
    usual, recorded = toy_sweep(tmp_path, tmp_path / "runs"), toy_sweep(tmp_path, tmp_path, numerics="recorded")
    assert (keys(usual), usual.id) == (keys(recorded), recorded.id)
    assert usual.resolved.machine is None


def test_jobs_run_on_the_machine_they_were_planned_for_and_fail_on_another(tmp_path: Path) -> None:
    search = {"seeds": [0], "baseline": False}
    here = strict(tmp_path, search=search)
    here.run(InlineExecutor(), spec_file=None)
    assert set(finished_jobs(here)) == keys(here)
    elsewhere = on_machine(strict(tmp_path, search=search), torch_version="0.1")
    elsewhere.run(InlineExecutor(), spec_file=None)
    assert not finished_jobs(elsewhere)
    (failure, *_) = [event["error"] for event in read_events(elsewhere.paths.ledger) if event["event"] == "job_failed"]
    assert f"planned for torch 0.1, here it is {torch.__version__}: start the run on a node like" in failure


def test_a_rerun_is_planned_for_the_machine_it_runs_on(tmp_path: Path) -> None:
    elsewhere = on_machine(strict(tmp_path), processor="Z80")
    rerun = OriginalRun(elsewhere.resolved, {}, tmp_path / "reruns").rerun()
    assert rerun.resolved.machine == MachineKind.here()


def test_a_stored_sweep_keeps_the_machine_it_was_planned_for(tmp_path: Path) -> None:
    elsewhere = on_machine(strict(tmp_path), processor="Z80")
    elsewhere.paths.root.mkdir(parents=True)
    elsewhere.paths.resolved.write_text(json.dumps(elsewhere.resolved.model_dump(mode="json")), encoding="utf-8")
    assert keys(Sweep.reopened(elsewhere.paths.root)) == keys(elsewhere)


@pytest.mark.parametrize(
    ("device", "gpus", "here", "message"),
    [
        (CPU, 0.0, {"processor": "B"}, "planned for device A, here it is B"),
        (CPU, 0.0, {"cores": 8}, "planned for cores 4, here it is 8"),
        (GPU, 0.5, {"installed_gpus": 4}, "planned for GPUs 2, here it is 4"),
        (CPU, 0.5, {}, "planned for device H, here it is A"),
        (GPU, 0.5, {"gpu": "V"}, "planned for device H, here it is V"),
    ],
)
def test_a_job_refuses_another_device(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, gpus: float, here: dict[str, Any], message: str
) -> None:
    stand_on(monkeypatch, **here)
    with pytest.raises(OtherMachineError, match=message):
        PLANNED.check(device, gpus=gpus)


@pytest.mark.parametrize(("device", "gpus"), [(CPU, 0.0), (GPU, 0.5)])
def test_a_job_accepts_the_devices_of_its_kind_of_machine(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, gpus: float
) -> None:
    stand_on(monkeypatch)
    PLANNED.check(device, gpus=gpus)
    stand_on(monkeypatch, gpu=None)
    without_gpu = PLANNED.model_copy(update={"gpu": None})
    without_gpu.check(CPU, gpus=gpus)  # as `missing_gpu` says


def stand_on(patch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Make this machine one of the planned kind, or one that differs from it."""
    here = PLANNED.model_copy(update=changes)
    patch.setattr(numerics, "device_name", lambda device: here.gpu if device.type == "cuda" else here.processor)
    patch.setattr(os, "cpu_count", lambda: here.cores)
    patch.setattr(numerics, "installed_gpus", lambda: here.installed_gpus)
    patch.setattr(torch, "__version__", here.torch_version)
