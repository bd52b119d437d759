"""A warm process that runs one job after another, with the CPUs and the share of a GPU it was started with."""

from __future__ import annotations

import importlib
import threading
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import ray

from orchestrator.placement.nodes import Request
from orchestrator.planning.graph import PlannedJob
from orchestrator.store.artifacts import ArtifactStore, Facts

if TYPE_CHECKING:  # torch takes seconds to import, and the broker does without
    import numpy as np
    from numpy.typing import NDArray

    from workloads.context import DataInput, Progress
    from workloads.datasets.base import ImageSet

PROGRESS_EVERY_S = 0.5
"""How often a job's progress is sent to the broker, at most."""


class ImageArrays(NamedTuple):
    """An `ImageSet` as NumPy arrays, which Ray shares between the processes of a node without copying."""

    images: NDArray[np.uint8]
    identities: NDArray[np.int64]
    names: tuple[str, ...]
    held_out: NDArray[np.bool_] | None


class Worker:
    """Runs jobs in a process that imports torch once. It owns nothing that outlives a job."""

    def __init__(self, store: str, broker: Any, checkpoint_every_s: float, number: int, gpu_share: float) -> None:
        """Tell the broker that this process is there, and import torch.

        Args:
            number: by which the broker knows the worker.
            gpu_share: the part of a GPU that the process may fill; 0 for none, 1 for a GPU to itself.
        """
        broker.worker_started.remote(number)
        self._should_stop = threading.Event()
        # The answer comes when the run is asked to end, or an error when the broker is gone.
        broker.until_stopped.remote().future().add_done_callback(lambda _: self._should_stop.set())
        self._store, self._broker = ArtifactStore(store), broker
        self._checkpoint_every_s = checkpoint_every_s
        self._images: dict[str, ImageSet] = {}
        importlib.import_module("orchestrator.executors.run_job")  # torch: seconds, best spent before a job waits
        importlib.import_module("workloads.core.numerics").fix_cublas_workspace()  # before CUDA starts here
        importlib.import_module("orchestrator.executors.usage").limit_gpu_memory(gpu_share)

    def run(self, job: PlannedJob, request: Request, unused_gpu: str = "") -> Facts:
        """Run a job and commit its artifact; returns facts about its making. Raises whatever the job raises.

        Args:
            request: what the job asked for; the worker holds at least that.
            unused_gpu: why it asked for none of the GPUs that there are.
        """
        import torch

        from orchestrator.executors.run_job import device_for, run_job

        context = ray.get_runtime_context()
        where = {"node": context.get_node_id(), "gpu_ids": ray.get_gpu_ids()}
        where |= {"missing_gpu": unused_gpu} if unused_gpu else {}
        try:
            manifest = run_job(
                job,
                self._store,
                request=request,
                load_images=self._load_images,
                on_progress=self._reporter(job.key),
                device=device_for(request.gpus),
                where=where,
                checkpoint_every_s=self._checkpoint_every_s,
                should_stop=self._should_stop.is_set,
                takes_stderr=True,
            )
        finally:
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()  # other processes share the GPU and may need what this job used
        return manifest.facts

    def _reporter(self, key: str) -> Callable[[Progress], None]:
        """Make a function that tells the broker how far a job is, and does not wait for an answer."""
        last = 0.0

        def report(progress: Progress) -> None:
            nonlocal last
            if time.monotonic() - last >= PROGRESS_EVERY_S:
                last = time.monotonic()
                self._broker.progress.remote(key, progress.step, progress.steps, dict(progress.metrics))

        return report

    def _load_images(self, data: DataInput) -> ImageSet:
        """Return images in memory that every worker of this node shares, read-only."""
        import torch

        from workloads.core.config import digest
        from workloads.datasets.base import ImageSet

        name = digest(data.model_dump(mode="json"))
        if name not in self._images:
            (reference,) = ray.get(self._broker.images.remote(name, data.model_dump_json()))
            arrays: ImageArrays = ray.get(reference)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
                images, identities = torch.from_numpy(arrays.images), torch.from_numpy(arrays.identities)
                held_out = None if arrays.held_out is None else torch.from_numpy(arrays.held_out)
                self._images[name] = ImageSet(images, identities, arrays.names, held_out)
        return self._images[name]


WorkerActor = ray.remote(Worker)


@ray.remote(num_cpus=0)
def read_data(data: str) -> ImageArrays:
    """Read a data set, described by a `DataInput` as JSON.

    This is done once; Ray copies the result to each node that asks, and all workers there share the copy.
    """
    from orchestrator.executors.run_job import read_images
    from workloads.context import DataInput

    return as_arrays(read_images(DataInput.model_validate_json(data)))


def as_arrays(images: ImageSet) -> ImageArrays:
    """The same images as NumPy arrays."""
    held_out = None if images.held_out is None else images.held_out.numpy()
    return ImageArrays(images.images.numpy(), images.identities.numpy(), images.names, held_out)
