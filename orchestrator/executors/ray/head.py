"""Watches over the head of the cluster while a sweep runs: Ray waits for one that is gone, then ends the process."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import ray

from orchestrator.errors import ClusterLost

GcsClient: Any = importlib.import_module("ray._raylet").GcsClient  # its stub file does not know it
LOOK_EVERY_S = 2.0
ANSWER_WITHIN_S = 3.0
LOST_AFTER_S = 12.0
"""A head that has not answered for so long is gone. One that comes back has forgotten the jobs of this driver."""
LOST = (
    f"The head of the Ray cluster has not answered for {LOST_AFTER_S:g} s. What is done is kept: the same command "
    "continues when it is back."
)
SHOW_CURSOR = "\x1b[?25h"
"""A live display hides it."""
LEAVE_WITHIN_S = 10.0
"""How long Ray may take to shut down without its head before the process ends as it is."""


@contextmanager
def watched_head() -> Iterator[None]:
    """Raise `ClusterLost` in the block when the head of the cluster does not answer any more.

    Only the main thread can be interrupted so; in another one, Ray ends the process after a minute.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    over = threading.Event()
    main_thread = threading.get_ident()
    thread = threading.Thread(
        target=_watch,
        args=(GcsClient(address=ray.get_runtime_context().gcs_address), over, lambda: _interrupt(main_thread)),
        name="head",
        daemon=True,
    )
    before = signal.signal(signal.SIGALRM, _raise_lost)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGALRM, before)


def _watch(
    gcs: Any, over: threading.Event, lost: Callable[[], None], clock: Callable[[], float] = time.monotonic
) -> None:
    """Call `lost` once the head has not answered for `LOST_AFTER_S`."""
    answered = clock()
    while not over.wait(LOOK_EVERY_S):
        try:
            gcs.check_alive([], timeout=ANSWER_WITHIN_S)
        except ray.exceptions.RayError:
            if clock() - answered > LOST_AFTER_S:
                lost()
                return
        else:
            answered = clock()


def _interrupt(main_thread: int) -> None:
    leave = threading.Timer(LEAVE_WITHIN_S, _leave)
    leave.daemon = True
    leave.start()
    signal.pthread_kill(main_thread, signal.SIGALRM)


def _leave() -> None:
    """End this process, which Ray holds up, and those that it has started."""
    sys.stderr.write(f"{SHOW_CURSOR if sys.stderr.isatty() else ''}{LOST}\n")
    sys.stderr.flush()
    node = ray._private.worker._global_node
    if node is not None:
        node.kill_all_processes(check_alive=False, allow_graceful=False)
    os._exit(1)


def _raise_lost(number: int, frame: FrameType | None) -> None:
    raise ClusterLost(LOST)
