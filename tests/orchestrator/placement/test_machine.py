"""What this machine says of its GPUs: those torch can use, those it cannot, and whether they are shared."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from orchestrator.placement import machine
from orchestrator.placement.machine import LocalGpus, local_gpus, mps_runs, this_machine
from orchestrator.placement.nodes import Gpu
from workloads.core import nvidia_driver


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where NVIDIA's driver would list its GPUs."""
    monkeypatch.setattr(nvidia_driver, "GPU_FOLDERS", tmp_path / "gpus")
    return tmp_path / "gpus"


def refuse(message: str) -> None:
    raise RuntimeError(message)


def test_a_machine_without_gpus_has_nothing_to_explain(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    node = this_machine()
    assert (node.gpus, node.without_cuda, node.mps) == ((), "", False)
    assert node.cpus > 0


def test_a_driver_too_old_is_one_line(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (driver / "0000:01:00.0").mkdir(parents=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    too_old = "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver."
    monkeypatch.setattr(torch.cuda, "init", lambda: refuse(too_old))
    assert this_machine().without_cuda == (
        "this machine has 1 GPU that torch cannot use, so jobs run on CPUs: "
        f"torch {torch.__version__}: The NVIDIA driver on your system is too old (found version 11040)"
    )


def test_a_build_of_torch_for_cpus_is_named(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (driver / name).mkdir(parents=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert this_machine().without_cuda == (
        "this machine has 2 GPUs that torch cannot use, so jobs run on CPUs: "
        f"torch {torch.__version__} is a build for CPUs"
    )


def test_gpus_that_torch_can_use_come_with_their_names_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        name, total_memory = "H100", 80 * 2**30

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Properties)
    monkeypatch.setattr(machine, "mps_runs", lambda: True)
    assert local_gpus() == LocalGpus((Gpu(80.0, "H100"), Gpu(80.0, "H100")), mps=True)


def test_the_multi_process_service_is_where_its_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(machine.MPS_VARIABLE, str(tmp_path))
    assert not mps_runs()
    (tmp_path / "control").touch()
    assert mps_runs()
    monkeypatch.delenv(machine.MPS_VARIABLE)
    monkeypatch.setattr(machine, "MPS_FOLDER", tmp_path)
    assert mps_runs()
