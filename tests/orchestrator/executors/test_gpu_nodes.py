"""GPUs of a cluster's nodes as Ray and torch see them, and the multi-process service; no Ray is started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.errors import RequestError
from orchestrator.executors.ray.devices import described
from orchestrator.executors.ray.mps import client_environment, mps_daemon
from orchestrator.executors.ray.pool import Slot, held_by_others
from orchestrator.placement.machine import MPS_VARIABLE, LocalGpus
from orchestrator.placement.nodes import Gpu, Node, Request

TWO_GPUS = Node("abcdef0123", 8, (Gpu(), Gpu()), 64.0)
H100 = Gpu(80.0, "H100")


def test_gpus_that_ray_declares_get_the_memory_that_torch_finds() -> None:
    (node,) = described([TWO_GPUS], {TWO_GPUS.id: LocalGpus((H100, H100), mps=True)})
    assert (node.gpus, node.mps, node.without_cuda) == ((H100, H100), True, "")


def test_a_gpu_more_than_torch_finds_has_unknown_memory() -> None:
    (node,) = described([TWO_GPUS], {TWO_GPUS.id: LocalGpus((H100,))})
    assert node.gpus == (H100, Gpu())


def test_gpus_that_exist_on_paper_only_are_said_to() -> None:
    (node,) = described([TWO_GPUS], {TWO_GPUS.id: LocalGpus(without_cuda="torch 2.11 sees none")})
    assert (
        node.without_cuda == "node abcdef01 has 2 GPUs that torch cannot use, so jobs run on CPUs: torch 2.11 sees none"
    )


def test_a_node_that_did_not_answer_is_as_ray_describes_it() -> None:
    assert described([TWO_GPUS], {TWO_GPUS.id: LocalGpus()}) == described([TWO_GPUS], {}) == [TWO_GPUS]


def test_a_worker_serves_jobs_that_ask_for_the_same_or_less_main_memory() -> None:
    slot = Slot(0, None, Request(2, 0.25, 4.0, 20.0), "node")
    assert slot.serves(Request(2, 0.25, 4.0, 20.0))
    assert slot.serves(Request(2, 0.25, 1.0, 20.0))
    assert not slot.serves(Request(2, 0.25, 5.0, 20.0))
    assert not slot.serves(Request(1, 0.25, 4.0, 20.0))
    assert not slot.serves(Request(2, 0.125, 4.0, 10.0))


def test_what_others_hold_is_what_is_neither_free_nor_ours() -> None:
    request, total = Request(2, 0.5, 1.0), {"CPU": 8.0, "GPU": 1.0}
    busy = held_by_others(request, [Request(cpus=1)], total, {"CPU": 1.0})
    assert busy == "waits for 2 CPU, of 8 others hold 6; 0.5 GPU, of 1 others hold 1"
    assert held_by_others(Request(), [], total, {"GPU": 1.0}) == "waits for 1 CPU, of 8 others hold 8"
    assert held_by_others(request, [], total, total) == "waits for Ray to start its worker"


def test_workers_that_share_a_gpu_under_the_service_are_kept_to_their_memory_and_to_nothing_else() -> None:
    """The number of multiprocessors that a process sees decides which kernels run, and so the last bits."""
    node = Node("a", 8, (H100,), 64.0, mps=True)
    assert client_environment(node, (0,), 0.25) == {"env_vars": {"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=20480M"}}
    assert client_environment(node, (0,), 1.0) is None
    assert client_environment(node, (), 0.0) is None
    assert client_environment(Node("a", 8, (H100,), 64.0), (0,), 0.25) is None
    assert client_environment(Node("a", 8, (Gpu(),), 64.0, mps=True), (0,), 0.25) is None


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program with the name of NVIDIA's, that notes how it is called; returns its notes."""
    notes = tmp_path / "notes"
    program = tmp_path / "nvidia-cuda-mps-control"
    program.write_text(
        f'#!/bin/sh\necho "$1$(cat)" >> {notes}\n[ -z "$1" ] || touch "$CUDA_MPS_PIPE_DIRECTORY/control"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv(MPS_VARIABLE, str(tmp_path / "nowhere"))
    return notes


def test_a_daemon_is_started_for_a_run_and_told_to_quit(control: Path) -> None:
    with mps_daemon():
        assert (Path(os.environ[MPS_VARIABLE]) / "control").exists()
        assert control.read_text().split() == ["-d"]
    assert control.read_text().split() == ["-d", "quit"]
    assert MPS_VARIABLE not in os.environ


def test_a_daemon_that_runs_already_is_left_alone(
    control: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MPS_VARIABLE, str(tmp_path))
    (tmp_path / "control").touch()
    with mps_daemon():
        pass
    assert not control.exists()


def test_a_service_that_is_not_installed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(MPS_VARIABLE, str(tmp_path))
    with (
        pytest.raises(RequestError, match=r"resources\.start_mps: nvidia-cuda-mps-control is not on PATH"),
        mps_daemon(),
    ):
        pass
