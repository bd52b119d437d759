"""What a job took is measured, and what cannot be measured is left out."""

from __future__ import annotations

import mmap
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest
import torch

from orchestrator.executors import usage
from orchestrator.executors.usage import limit_gpu_memory, peak_memory_gb, usage_of

GPU, CPU = torch.device("cuda"), torch.device("cpu")
GIB = 2**30


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A pretended GPU of 80 GiB of which torch says that it reserved 3 GiB and used 2; returns what was called."""
    calls: list[str] = []

    class Properties:
        total_memory = 80 * GIB

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: calls.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 3 * GIB)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 2 * GIB)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda fraction: calls.append(f"limit {fraction:.4f}")
    )
    return calls


def test_the_peak_of_a_job_is_not_that_of_the_job_before_it() -> None:
    """64 MiB of new pages are written to and freed; then a job allocates nothing."""
    with usage_of(CPU) as large, mmap.mmap(-1, 64 * 2**20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        for page in range(0, len(pages), mmap.PAGESIZE):
            pages[page] = 1
    with usage_of(CPU) as small:
        pass
    assert large["memory_gb"] - small["memory_gb"] == pytest.approx(64 / 1024, abs=16 / 1024)
    assert set(large) == {"memory_gb"}


def test_a_peak_that_cannot_be_set_back_is_not_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(usage, "PROCESS", tmp_path / "none")
    with usage_of(CPU) as measured:
        pass
    assert measured == {}


def test_the_peak_is_read_from_linux(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """3 GiB at the most, of which half a GiB are libraries and half a GiB are images in shared memory."""
    memory = {"VmPeak": 9_000_000, "VmHWM": 3_145_728, "RssAnon": 5, "RssFile": 524_288, "RssShmem": 524_288}
    lines = [f"{name}:\t{number:>10} kB" for name, number in memory.items()]
    (tmp_path / "status").write_text("\n".join(["Name:\tpython", *lines, "Threads:\t1"]))
    monkeypatch.setattr(usage, "PROCESS", tmp_path)
    assert peak_memory_gb() == 2.0


def test_gpu_memory_is_what_torch_reserved_since_the_job_began(card: list[str]) -> None:
    with usage_of(GPU) as measured:
        assert card == ["reset"]
    assert (measured["gpu_memory_gb"], measured["gpu_allocated_gb"]) == (3.0, 2.0)


def test_how_busy_a_gpu_is_is_left_out_where_nobody_can_say(card: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with usage_of(GPU) as measured:
        pass
    assert "gpu_busy" not in measured


def test_how_busy_a_gpu_is_is_the_mean_of_its_samples(card: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    library = ModuleType("pynvml")
    library.__dict__["NVMLError"] = OSError
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(usage, "SAMPLE_EVERY_S", 0.001)
    answers, seen = iter([0, 100, 50]), threading.Event()  # the first tries whether the driver answers

    def utilization(device: torch.device) -> int:
        answer = next(answers, None)
        if answer is None:
            seen.set()
        return 75 if answer is None else answer

    monkeypatch.setattr(torch.cuda, "utilization", utilization)
    with usage_of(GPU) as measured:
        assert seen.wait(30)
    assert measured["gpu_busy"] == pytest.approx(0.75), "of 100 and 50 per cent, and 75 whenever it was asked again"


@pytest.mark.parametrize(("share", "limit"), [(0.25, ["limit 0.2425"]), (1.0, []), (0.0, [])])
def test_a_worker_keeps_to_its_share_without_what_cuda_takes(card: list[str], share: float, limit: list[str]) -> None:
    """A quarter of 80 GiB is 20; 0.6 of them are CUDA's own."""
    limit_gpu_memory(share)
    assert card == limit


def test_where_there_is_no_gpu_nothing_is_limited(card: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    limit_gpu_memory(0.25)
    assert card == []
