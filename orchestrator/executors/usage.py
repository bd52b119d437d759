"""What a job takes while it runs, measured: its peak of memory here and on its GPU, and how busy that GPU is."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import statistics
import threading
from collections.abc import Iterator
from pathlib import Path

import torch

from orchestrator.placement.sizing import CONTEXT_GB

GIB = 2**30
SAMPLE_EVERY_S = 0.5
"""Seconds between looks at how busy the GPU is; the driver averages over about as long."""
PROCESS = Path("/proc/self")
RESET_PEAK = "5"
"""Linux sets the peak of a process's memory back when this is written to its `clear_refs` (proc(5))."""


@contextlib.contextmanager
def usage_of(device: torch.device) -> Iterator[dict[str, float]]:
    """Measure while the block runs; the dictionary is filled when it ends. What cannot be measured is left out."""
    usage: dict[str, float] = {}
    peak_is_of_block = _reset_peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with _busy(device, usage):
        yield usage
    if peak_is_of_block:
        usage["memory_gb"] = round(peak_memory_gb(), 3)
    if device.type == "cuda":
        usage["gpu_memory_gb"] = round(torch.cuda.max_memory_reserved(device) / GIB, 3)
        usage["gpu_allocated_gb"] = round(torch.cuda.max_memory_allocated(device) / GIB, 3)


def peak_memory_gb() -> float:
    """Largest resident memory of this process since it began or since its peak was reset, in GiB (Linux).

    Pages that processes share, those of libraries and of images in shared memory, are left out, since every worker of a
    machine has them. Linux tells how many there are now, not at the peak.
    """
    status = (PROCESS / "status").read_text(encoding="ascii", errors="replace")
    kibibytes = {name: int(number) for name, number in re.findall(r"^(\w+):\s+(\d+) kB$", status, re.MULTILINE)}
    shared = kibibytes["RssFile"] + kibibytes["RssShmem"]
    return max(kibibytes["VmHWM"] - shared, 0) * 1024 / GIB


def limit_gpu_memory(share: float) -> None:
    """Keep this process to its share of its GPU: beyond it, torch raises OutOfMemoryError here and nowhere else."""
    if not 0 < share < 1 or not torch.cuda.is_available():
        return
    total_gb = torch.cuda.get_device_properties(0).total_memory / GIB
    torch.cuda.set_per_process_memory_fraction(max(share - CONTEXT_GB / total_gb, 0.01))


def _reset_peak() -> bool:
    """Set the peak of this process's memory back; False where that cannot be done."""
    try:
        (PROCESS / "clear_refs").write_text(RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _busy(device: torch.device, usage: dict[str, float]) -> Iterator[None]:
    """Look now and then how busy the GPU is, in a thread, where NVIDIA's library for Python is installed."""
    if device.type != "cuda" or not _can_ask_driver(device):
        yield
        return
    samples: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(SAMPLE_EVERY_S):
            samples.append(torch.cuda.utilization(device))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        if samples:
            usage["gpu_busy"] = round(statistics.fmean(samples) / 100, 3)


def _can_ask_driver(device: torch.device) -> bool:
    """Whether torch can ask the driver: it needs `nvidia-ml-py`, and a GPU that is not a part of another."""
    if importlib.util.find_spec("pynvml") is None:
        return False
    refusals: tuple[type[Exception], ...] = (RuntimeError, importlib.import_module("pynvml").NVMLError)
    try:
        torch.cuda.utilization(device)
    except refusals:
        return False
    return True
