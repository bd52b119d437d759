"""What is kept for finding out what happened: the log of a run, and a log of each job that had something to say."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TextIO

from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.paths import without_password

OURS = "orchestrator"
"""The loggers whose messages of level INFO are what happened in a run; of libraries, warnings are kept."""
DUMP_TAKES_S = 0.5
"""How long the stacks of a process take to be written."""


class _Formatter(logging.Formatter):
    """One line a message, with local time; passwords in addresses are left out."""

    def format(self, record: logging.LogRecord) -> str:
        return without_password(super().format(record))


FORMAT = _Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


def keep_log(path: Path) -> logging.Handler:
    """Begin to append what happens to the log of a run; several processes may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(FORMAT)
    logging.getLogger(OURS).setLevel(logging.INFO)
    logging.getLogger().addHandler(handler)
    return handler


@contextmanager
def run_log(path: Path) -> Iterator[None]:
    """Append to the log of a run what happens in the block, and what libraries warn of."""
    before = logging.getLogger(OURS).level
    handler = keep_log(path)
    try:
        yield
    finally:
        logging.getLogger(OURS).setLevel(before)
        logging.getLogger().removeHandler(handler)
        handler.close()


@contextmanager
def job_log(store: ArtifactStore, key: str, *, timeout_s: float | None, takes_stderr: bool) -> Iterator[None]:
    """Keep in the store what a job logs, warns of and fails with, unless it has nothing to say.

    Args:
        timeout_s: seconds after which all stacks of the process are written there, whatever hangs; None for never.
        takes_stderr: whether what the process writes to stderr belongs to the job, as in a worker.
    """
    file = store.log_file(key)
    with file.open("a", encoding="utf-8") as log, _dump_after(timeout_s, log, store, key):
        handler = logging.StreamHandler(log)
        handler.setFormatter(FORMAT)
        logging.getLogger().addHandler(handler)
        logging.captureWarnings(True)
        try:
            with stderr_to(log) if takes_stderr else nullcontext():
                yield
        except Exception:
            traceback.print_exc(file=log)
            raise
        finally:
            logging.captureWarnings(False)
            logging.getLogger().removeHandler(handler)
            log.flush()
            store.keep_log(key)


@contextmanager
def _dump_after(timeout_s: float | None, log: TextIO, store: ArtifactStore, key: str) -> Iterator[None]:
    """Write all stacks to the log when the time is over: in a thread of C, which no hanging code stops."""
    if timeout_s is None:
        yield
        return
    # The process may be killed right after, before it can bring its log to a store elsewhere.
    keeper = threading.Timer(timeout_s + DUMP_TAKES_S, store.keep_log, (key,))
    keeper.daemon = True
    keeper.start()
    faulthandler.dump_traceback_later(timeout_s, file=log)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        keeper.cancel()


@contextmanager
def stderr_to(file: TextIO) -> Iterator[None]:
    """Send what this process and its libraries in C write to stderr to a file."""
    sys.stderr.flush()
    before = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
