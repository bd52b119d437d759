"""A run that is asked to end by a signal: in order at the first one, at once at the second."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from workloads.core.errors import JobStopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what schedulers send before they take a machine away."""
SHELLS_OFFSET = 128
"""What shells add to the number of the signal that ended a process."""
LOOK_EVERY_S = 0.1


class Stop:
    """Whether a run is asked to end. Any thread may ask and look; only the main thread hears signals."""

    def __init__(self, grace_s: float = 10.0) -> None:
        """`grace_s` is how long jobs at work have to save where they stand."""
        self.grace_s = grace_s
        self._requested = threading.Event()
        self._signal: signal.Signals | None = None
        self._cuts_short = False

    @property
    def is_requested(self) -> bool:
        """Whether jobs should end as soon as they have saved where they stand."""
        return self._requested.is_set()

    @property
    def reason(self) -> str:
        """Name of the signal, such as 'SIGINT'; empty if none was heard."""
        return self._signal.name if self._signal else ""

    @property
    def exit_status(self) -> int:
        """Exit status of a command that the signal has ended, as shells know it; 0 if none was heard."""
        return SHELLS_OFFSET + self._signal if self._signal else 0

    def request(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask the run to end, as a signal does."""
        self._signal = number
        self._requested.set()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take a signal in the block for a request to end, and a second one for an exit at once.

        Blocks may be nested, which takes the signals back from a library that has put itself in between.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # Python hands signals to the main thread alone
            return
        before = [signal.signal(number, self._hear) for number in SIGNALS]
        try:
            yield
        finally:
            for number, handler in zip(SIGNALS, before, strict=True):
                signal.signal(number, handler)

    @contextmanager
    def followed_by(self, act: Callable[[], None]) -> Iterator[None]:
        """Call `act` in a thread once a request comes within the block."""
        over = threading.Event()

        def watch() -> None:
            while not over.is_set():
                if self._requested.wait(LOOK_EVERY_S):
                    act()
                    return

        thread = threading.Thread(target=watch, name="stop", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    @contextmanager
    def cutting_short(self) -> Iterator[None]:
        """Raise `JobStopped` in the block where the grace is over: for jobs in this process that save nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGALRM, _raise_stopped)
        self._cuts_short = True
        try:
            yield
        finally:
            self._cuts_short = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.is_requested:
            raise SystemExit(SHELLS_OFFSET + number)
        self.request(signal.Signals(number))
        if self._cuts_short:
            signal.setitimer(signal.ITIMER_REAL, self.grace_s)


def _raise_stopped(number: int, frame: FrameType | None) -> None:
    raise JobStopped("the time for saving where it stands is over")
