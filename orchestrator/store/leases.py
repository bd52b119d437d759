"""Which process computes a job at this moment, so that sweeps which share jobs and a store compute each once.

A lease is a small file that its holder writes anew every few seconds. One that does not change for a while is stale,
by the clock of whoever waits: clocks of two machines are never compared. Without a lease two processes would compute
the same bits twice, which wastes time and harms nothing; on an object store, which cannot create a file only if there
is none, two that begin within the same moment still do.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict

from orchestrator.errors import StoreUnavailable
from orchestrator.store.files import StoreFiles
from orchestrator.store.owners import Owner

RENEW_EVERY_S = 10.0
STALE_AFTER_S = 60.0
"""How long a lease may stay as it is before its holder is taken to be gone."""


class Leases:
    """The leases of one process."""

    def __init__(self, files: StoreFiles, owner: Owner, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds from any moment."""
        self._files, self._owner, self._clock = files, owner, clock
        self._held: dict[str, int] = {}
        self._seen: dict[str, tuple[bytes, float]] = {}
        self._lock = threading.Lock()

    def keep_renewed(self) -> threading.Event:
        """Renew what is held from time to time, in a thread that ends with the process, or when the event is set."""
        over = threading.Event()

        def renew_now_and_then() -> None:
            while not over.wait(RENEW_EVERY_S):
                self.renew()

        threading.Thread(target=renew_now_and_then, name="leases", daemon=True).start()
        return over

    def take(self, key: str) -> str:
        """Take the lease of a job unless another process holds it. Returns "" if it is taken, else who holds it.

        Raises:
            StoreUnavailable: if the store cannot be written to.
        """
        with self._lock:
            content = self._content(0)
            if not self._files.create(_path(key), content):
                holder = self._holder(key)
                if holder is not None:
                    return str(holder)
                self._files.write(_path(key), content)
                if self._files.read(_path(key)) != content:  # another one was there in the same moment
                    return "another process"
            self._held[key] = 0
            self._seen.pop(key, None)
            return ""

    def release(self, key: str) -> None:
        """Give a lease back; one that cannot be removed goes stale."""
        with self._lock, suppress(StoreUnavailable):
            if self._held.pop(key, None) is not None and self._files.exists(_path(key)):
                self._files.delete(_path(key))

    def renew(self) -> None:
        """Write all that are held anew; a store that is away for a moment is tried again the next time."""
        with self._lock:
            for key in self._held:
                self._held[key] += 1
                try:
                    self._files.write(_path(key), self._content(self._held[key]))
                except StoreUnavailable:
                    return

    def _holder(self, key: str) -> Owner | None:
        """Who holds a lease; None if nobody does any more."""
        try:
            content = self._files.read(_path(key))
        except StoreUnavailable:  # it was given back since
            return None
        before, since = self._seen.get(key, (b"", 0.0))
        if content != before:
            before, since = self._seen[key] = content, self._clock()
        try:
            holder = Owner(**json.loads(content)["owner"])
        except (ValueError, TypeError, KeyError):
            return None
        is_stale = self._clock() - since > STALE_AFTER_S
        return None if is_stale or holder.is_gone() or holder == self._owner else holder

    def _content(self, renewals: int) -> bytes:
        return json.dumps({"owner": asdict(self._owner), "renewals": renewals}).encode()


def _path(key: str) -> str:
    return f"leases/{key}.json"
