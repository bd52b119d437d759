"""Run one job in this process, from its plan to a committed artifact. Shared by every executor."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import torch

from orchestrator.planning.graph import PlannedJob
from orchestrator.store.artifacts import ArtifactStore, Manifest
from workloads.context import DataInput, JobContext, Progress
from workloads.core.errors import DataError
from workloads.datasets.base import DATASETS, ImageSet
from workloads.jobs.base import job_from


def run_job(
    job: PlannedJob,
    store: ArtifactStore,
    *,
    load_images: Callable[[DataInput], ImageSet],
    on_progress: Callable[[Progress], None],
    device: torch.device,
    where: Mapping[str, Any],
    checkpoint_every_s: float,
) -> Manifest:
    """Compute a job and commit what it leaves; continues from the last checkpoint of an earlier try.

    Raises whatever the job raises; an attempt that fails leaves no artifact and keeps its checkpoint.
    """
    started = time.perf_counter()
    torch.set_num_threads(job.request.cpus)
    output = store.new_attempt(job.key)
    with contextlib.ExitStack() as attempt:
        attempt.callback(shutil.rmtree, output, ignore_errors=True)
        context = JobContext(
            key=job.key,
            inputs={role: store.open(key) for role, key in job.inputs.items()},
            output=output,
            checkpoint_file=store.checkpoint_file(job.key),
            on_checkpoint=lambda file: store.keep_checkpoint(job.key, file),
            load_images=load_images,
            memory_gb=job.request.memory_gb,
            device=device,
            on_progress=on_progress,
            checkpoint_every_s=checkpoint_every_s,
        )
        job_from(job.config).run(context)
        manifest = store.commit(job.key, job.kind, output, facts(time.perf_counter() - started, device, where))
        attempt.pop_all()  # it is the store's now
    return manifest


def facts(seconds: float, device: torch.device, where: Mapping[str, Any]) -> dict[str, Any]:
    """How an artifact was made: about the making, never part of a result."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "seconds": seconds,
        "finished_at": time.time(),
        "threads": torch.get_num_threads(),
        "device": gpu or device.type,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "midre": version("midre"),
        **where,
    }


def read_images(data: DataInput) -> ImageSet:
    """Read a data set whose bytes are still those the job was planned for.

    Raises:
        DataError: if they changed.
    """
    dataset = DATASETS.build(data.dataset)
    if dataset.digest() != data.digest:
        raise DataError(f"{data.dataset.kind}: the files changed since this sweep was planned: start it again.")
    return dataset.load()


def device_for(gpus: float) -> torch.device:
    """The GPU this process was given, or the CPU where it was given none or the GPU exists on paper only."""
    return torch.device("cuda" if gpus > 0 and torch.cuda.is_available() else "cpu")
