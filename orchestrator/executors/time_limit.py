"""A limit of time on a job that runs in this process."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from orchestrator.errors import JobTimeout
from orchestrator.executors.logs import DUMP_TAKES_S


@contextmanager
def time_limit(timeout_s: float | None) -> Iterator[None]:
    """Raise `JobTimeout` in the block when the time is over, and stacks are written; the main thread alone hears it."""
    if timeout_s is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    limit_s = timeout_s + DUMP_TAKES_S
    deadline = time.monotonic() + limit_s

    def end(number: int, frame: FrameType | None) -> None:
        if time.monotonic() < deadline and callable(before):
            before(number, frame)  # a run that is asked to end has set the alarm anew: there is one for each process
        raise JobTimeout(timeout_s)

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
