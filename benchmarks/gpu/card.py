"""What a card could do at most, how much work a network is, and how much of the time the card was busy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import Work, now
from workloads.core.numerics import Precision, device_name

PEAKS: dict[str, dict[Precision, float]] = {
    "NVIDIA H100 PCIe": {"fp32": 51.0, "tf32": 378.0, "bf16": 756.0},
    "NVIDIA H100 80GB HBM3": {"fp32": 67.0, "tf32": 495.0, "bf16": 989.0},
    "NVIDIA H200": {"fp32": 67.0, "tf32": 495.0, "bf16": 989.0},
    "NVIDIA A100": {"fp32": 19.5, "tf32": 156.0, "bf16": 312.0},
    "NVIDIA L40S": {"fp32": 91.6, "tf32": 183.0, "bf16": 362.0},
    "NVIDIA GeForce RTX 4090": {"fp32": 82.6, "tf32": 82.6, "bf16": 165.2},
}
"""TFLOP/s of dense multiplications by how a card's name begins. fp32 runs without tensor cores; bf16 adds up in fp32.

Source: NVIDIA's data sheets "H100 Tensor Core GPU" (2023), "H200 Tensor Core GPU" (2024), "A100 80GB" (2021) and "L40S"
(2023), whose numbers with sparsity are halved; white paper "Ada GPU Architecture" (2022), appendix A.
"""


def peak(name: str, precision: Precision) -> float | None:
    """FLOP/s that a card of this name can do at most; None if the card is not in the table."""
    return next((1e12 * peaks[precision] for card, peaks in PEAKS.items() if name.startswith(card)), None)


def flop(work: Work) -> int:
    """Floating point operations of the convolutions and matrix products in one call, backward passes included."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def utilisation(flop: float, seconds: float, precision: Precision, device: torch.device) -> float | None:
    """Model FLOP utilisation (MFU): what the bare model computes over what the card could have computed meanwhile."""
    most = peak(device_name(device), precision)
    return None if most is None else flop / seconds / most


class BusyMeter:
    """Measures the share of wall time, between start and stop, in which the GPU ran a kernel or copied.

    The profiler slows the host, so that the share without it is at least this.
    """

    def __init__(self, device: torch.device) -> None:
        self.share: float | None = None
        """None before the end, and on CPUs."""
        self._device = device
        self._profiler = profile(activities=[ProfilerActivity.CUDA])
        self._started: float | None = None

    def __call__(self, progress: object) -> None:
        """As a job's `on_progress`: measure between its first report, before which all is prepared, and its second."""
        if self._device.type == "cuda" and self.share is None:
            (self.start if self._started is None else self.stop)()

    def start(self) -> None:
        """Begin to measure."""
        self._profiler.start()
        self._started = now(self._device)

    def stop(self) -> None:
        """End the measurement."""
        assert self._started is not None
        seconds = now(self._device) - self._started
        self._profiler.stop()
        events = [event for event in self._profiler.events() or () if event.device_type.name == "CUDA"]
        self.share = covered((event.time_range.start, event.time_range.end) for event in events) / 1e6 / seconds


def busy_share(work: Work, device: torch.device) -> float | None:
    """Share of the wall time of a call in which the GPU ran a kernel or copied; None on CPUs."""
    if device.type != "cuda":
        return None
    meter = BusyMeter(device)
    meter.start()
    work()
    meter.stop()
    return meter.share


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals, which may overlap."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return total


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Compute as torch does by itself while the block runs, free to take algorithms that are not deterministic."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.deterministic = cudnn


def by_torch_defaults(work: Work) -> Work:
    """The same work, computed as torch does by itself: what a bare loop would do."""

    def run() -> None:
        with torch_defaults():
            work()

    return run
