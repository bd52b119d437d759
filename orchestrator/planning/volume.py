"""How much a sweep will write to its store, as far as results of such jobs tell."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean

from orchestrator.errors import DamagedArtifact
from orchestrator.planning.graph import PlannedJob
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.room import bytes_of


def bytes_to_write(jobs: Iterable[PlannedJob], store: ArtifactStore) -> int | None:
    """Bytes of the results of those jobs that are not done; None if all are.

    A job takes what the last of its shape took, else what others of its kind take on average. One of a kind of which
    nothing is known counts nothing, and neither do checkpoints, so that more may be needed.

    Raises:
        StoreUnavailable: if the store cannot be reached.
    """
    missing = [job for job in jobs if not _is_there(job.key, store)]
    latest_of = functools.cache(store.latest_of)
    sizes: defaultdict[str, list[int]] = defaultdict(list)
    for job in missing:
        if (manifest := latest_of(job.shape)) is not None:
            sizes[job.kind].append(bytes_of(manifest))
    total = sum(round(fmean(sizes[job.kind])) for job in missing if job.kind in sizes)
    return total if missing else None


def _is_there(key: str, store: ArtifactStore) -> bool:
    try:
        return store.manifest(key) is not None
    except DamagedArtifact:
        return False
