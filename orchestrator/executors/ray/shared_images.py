"""Data sets in Ray's shared memory, each read once for all workers of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import ray

from orchestrator.executors.ray.worker import ImageArrays, read_data

ImagesReference = tuple[ray.ObjectRef[ImageArrays]]
"""A reference in a tuple, since Ray would replace a bare one by what it refers to."""


class SharedImages:
    """The data sets that workers have asked for."""

    def __init__(self, offers: Collection[str]) -> None:
        """`offers` are names of the data sets that the driver reads, of each of which `offer` will tell."""
        self._references: dict[str, ray.ObjectRef[ImageArrays]] = {}
        self._offers = {name: asyncio.Event() for name in offers}

    async def get(self, name: str, data: str) -> ImagesReference:
        """Return a reference to a data set, which is read at the first call.

        Args:
            name: the same for the same data set.
            data: a `DataInput` as JSON.
        """
        if name in self._offers:
            await self._offers[name].wait()
        if name not in self._references:
            self._references[name] = read_data.remote(data)
        return (self._references[name],)

    def offer(self, name: str, images: ImagesReference | None) -> None:
        """Take a data set that the driver has read; None if it could not read it."""
        if images is not None:
            self._references[name] = images[0]
        self._offers[name].set()
