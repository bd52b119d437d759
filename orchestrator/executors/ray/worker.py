"""A warm process that runs one job after another, with the CPUs and the share of a GPU it was started with."""

from __future__ import annotations

import importlib
import time
import warnings
from collections.abc import Callable
from typing import Any

import ray

from orchestrator.planning.graph import PlannedJob
from orchestrator.store.artifacts import ArtifactStore

PROGRESS_EVERY_S = 0.5


@ray.remote
class Worker:
    """Imports torch once. It owns nothing that outlives a job."""

    def __init__(self, store: str, broker: Any, checkpoint_every_s: float) -> None:
        self._store, self._broker = ArtifactStore(store), broker
        self._checkpoint_every_s = checkpoint_every_s
        self._images: dict[str, Any] = {}
        importlib.import_module("orchestrator.executors.running")  # torch: seconds, best spent before a job waits

    def run(self, job: PlannedJob) -> dict[str, Any]:
        """Run a job and commit its artifact; facts about its making. Raises what the job raises."""
        import torch

        from orchestrator.executors.running import device_for, run_job

        context = ray.get_runtime_context()
        where = {"node": context.get_node_id(), "gpu_ids": ray.get_gpu_ids()}
        try:
            manifest = run_job(
                job,
                self._store,
                load_images=self._load_images,
                on_progress=self._reporter(job.key),
                device=device_for(job.request.gpus),
                where=where,
                checkpoint_every_s=self._checkpoint_every_s,
            )
        finally:
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()  # the GPU is shared: what this job no longer needs is another's
        return dict(manifest.facts)

    def _reporter(self, key: str) -> Callable[[Any], None]:
        """Tells the broker how far the job is, at most twice a second; an answer is not waited for."""
        last = 0.0

        def report(progress: Any) -> None:
            nonlocal last
            if time.monotonic() - last >= PROGRESS_EVERY_S:
                last = time.monotonic()
                self._broker.progress.remote(key, progress.step, progress.steps, dict(progress.metrics))

        return report

    def _load_images(self, data: Any) -> Any:
        """Images in memory shared with every other worker of this node, read-only."""
        import torch

        from workloads.core.config import digest
        from workloads.datasets.base import ImageSet

        name = digest(data.model_dump(mode="json"))
        if name not in self._images:
            (reference,) = ray.get(self._broker.images.remote(name, data.model_dump_json()))
            pixels, identities, names, held_out = ray.get(reference)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
                flags = None if held_out is None else torch.from_numpy(held_out)
                self._images[name] = ImageSet(torch.from_numpy(pixels), torch.from_numpy(identities), names, flags)
        return self._images[name]


@ray.remote(num_cpus=0)
def read_data(described: str) -> tuple[Any, Any, tuple[str, ...], Any]:
    """Read a data set once; Ray copies it to each node that asks, and all workers there share the copy."""
    from orchestrator.executors.running import read_images
    from workloads.context import DataInput

    images = read_images(DataInput.model_validate_json(described))
    held_out = None if images.held_out is None else images.held_out.numpy()
    return images.images.numpy(), images.identities.numpy(), images.names, held_out
