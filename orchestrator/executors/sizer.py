"""What each job of a session asks for, which gets better as jobs of its shape finish."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.placement.nodes import Node
from orchestrator.placement.sizing import Sized, Usage, size
from orchestrator.planning.graph import PlannedJob
from orchestrator.store.artifacts import Facts, Manifest


class Sizer:
    """Knows what finished jobs took, from this session and from the store."""

    def __init__(self, latest_of: Callable[[str], Manifest | None], nodes: Callable[[], Sequence[Node]]) -> None:
        """`latest_of` returns the manifest of the job of a shape that finished last, as `ArtifactStore` does."""
        self._latest_of, self.nodes = latest_of, nodes
        self._usage: dict[str, Usage | None] = {}

    def size(self, job: PlannedJob) -> Sized:
        """What a job asks for on the nodes that there are now."""
        return size(job.needs, self.nodes(), usage=self._usage_of(job.shape), estimate_gb=job.estimate_gb)

    def learn(self, job: PlannedJob, facts: Facts) -> None:
        """Take note of what a job took that has just finished."""
        if job.shape:
            self._usage[job.shape] = Usage.of(facts)

    def _usage_of(self, shape: str) -> Usage | None:
        if shape not in self._usage:
            manifest = self._latest_of(shape)
            self._usage[shape] = None if manifest is None else Usage.of(manifest.facts)
        return self._usage[shape]
