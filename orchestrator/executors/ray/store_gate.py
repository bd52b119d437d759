"""A gate that is shut while the store takes no results, so that no job begins whose work would be lost."""

from __future__ import annotations

import asyncio

from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.room import NO_JOB_BEGINS, bytes_of, want_of_room

LOOK_FOR_ROOM_EVERY_S = 5.0


class StoreGate:
    """Open at first."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._open = asyncio.Event()
        self._open.set()
        self.trouble = ""
        """Why it is shut, in words; empty while it is open."""

    async def wait(self) -> None:
        """Return when it is open."""
        await self._open.wait()

    async def shut_until_there_is_room(self, shape: str) -> None:
        """Shut it until the store takes a result of a job of this shape; at once if it is shut already."""
        if not self._open.is_set():
            return
        self._open.clear()
        needed = bytes_of(self._store.latest_of(shape))
        try:
            while trouble := await asyncio.to_thread(want_of_room, self._store, needed):
                self.trouble = f"{trouble} {NO_JOB_BEGINS}"
                await asyncio.sleep(LOOK_FOR_ROOM_EVERY_S)
        finally:
            self.trouble = ""
            self._open.set()
