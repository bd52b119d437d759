"""Contestants timed in turns in one process, so that a machine that is busy for a while slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

from workloads.context import Progress

Work = Callable[[], object]
"""One turn of a contestant."""
Clock = Callable[[Work], float]
"""Runs a turn and returns how many seconds it took."""
Times = dict[str, list[float]]
"""Seconds of every counted turn, by contestant."""


def cpu_seconds(work: Work) -> float:
    """CPU seconds that one call takes in this process, which leave out the time that other processes took."""
    started = time.process_time()
    work()
    return time.process_time() - started


def wall_clock(device: torch.device) -> Clock:
    """A clock of wall seconds until the device has finished as well."""

    def seconds(work: Work) -> float:
        started = now(device)
        work()
        return now(device) - started

    return seconds


def now(device: torch.device) -> float:
    """Seconds on a monotonic clock, once the device has finished what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def alternate(turns: Mapping[str, Work], rounds: int, clock: Clock) -> Times:
    """Time contestants by turns, after one round that is not counted."""
    times: Times = {name: [] for name in turns}
    for number in range(rounds + 1):
        for name, work in turns.items():
            seconds = clock(work)
            if number:
                times[name].append(seconds)
    return times


def medians(times: Times) -> dict[str, float]:
    """Median seconds of each contestant."""
    return {name: statistics.median(seconds) for name, seconds in times.items()}


class Laps:
    """Times a loop that reports its progress, "ours", by turns with others who run while it waits in its report.

    It takes the place of a job's `on_progress`. The first lap, in which everything is prepared, is not counted. Times
    are seconds per step of the loop.
    """

    def __init__(self, others: Mapping[str, Work], *, steps: int, device: torch.device) -> None:
        """`steps` is how many steps of the loop one turn of the others does."""
        self.times: Times = {"ours": [], **{name: [] for name in others}}
        self._others, self._steps, self._device = others, steps, device
        self._last: tuple[int, float] | None = None

    def __call__(self, progress: Progress) -> None:
        """End a lap, let the others take their turns, and begin the next lap."""
        ended = now(self._device)
        counted = self._last is not None
        if self._last is not None:
            step, started = self._last
            self.times["ours"].append((ended - started) / (progress.step - step))
        for name, work in self._others.items():
            seconds = wall_clock(self._device)(work)
            if counted:
                self.times[name].append(seconds / self._steps)
        self._last = progress.step, now(self._device)
