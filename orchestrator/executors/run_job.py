"""Run one job in this process, from its plan to a committed artifact. Every executor uses this."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch

from orchestrator.executors.logs import job_log
from orchestrator.executors.usage import usage_of
from orchestrator.placement.nodes import Request
from orchestrator.planning.code import facts_of_code
from orchestrator.planning.graph import PlannedJob
from orchestrator.store.artifacts import ArtifactStore, Facts, Manifest, note_of_sent
from workloads.context import Clock, DataInput, JobContext, Progress
from workloads.core.config import digest
from workloads.core.errors import DataError
from workloads.core.numerics import MachineKind, NumericsRecord, deterministic
from workloads.core.plugins import check_installed
from workloads.datasets.base import DATASETS, ImageSet
from workloads.jobs.base import job_from


def run_job(
    job: PlannedJob,
    store: ArtifactStore,
    *,
    request: Request,
    load_images: Callable[[DataInput], ImageSet],
    on_progress: Callable[[Progress], None],
    device: torch.device,
    where: Facts,
    checkpoint_every_s: float,
    should_stop: Callable[[], bool] = lambda: False,
    takes_stderr: bool = False,
) -> Manifest:
    """Run a job from the last checkpoint of an earlier try, if there is one, and commit what it leaves.

    It computes deterministically, and the manifest says where it could not. Raises whatever the job raises; an attempt
    that fails leaves no artifact and keeps its checkpoint.

    Args:
        request: what it occupies; its CPUs are torch's threads.
        load_images: reads a data set, or returns one that this process has read.
        where: facts about the place for the artifact's manifest, such as the node.
        should_stop: whether the job is to end at its next checkpoint, with `JobStopped`.
        takes_stderr: whether what this process writes to stderr meanwhile goes to the job's log.
    """
    clock = Clock()
    check_installed(job.plugins, where=f"node {socket.gethostname()}")
    if job.machine is not None:
        MachineKind.model_validate(job.machine).check(device, gpus=request.gpus)
    torch.set_num_threads(request.cpus)
    output = store.new_attempt(job.key)
    with contextlib.ExitStack() as attempt:
        attempt.callback(shutil.rmtree, output, ignore_errors=True)
        log = job_log(store, job.key, timeout_s=job.needs.timeout_s, takes_stderr=takes_stderr)
        context = JobContext(
            key=job.key,
            inputs={role: store.open(key) for role, key in job.inputs.items()},
            output=output,
            checkpoint_file=store.checkpoint_file(job.key),
            on_checkpoint=lambda file: store.keep_checkpoint(job.key, file),
            load_images=load_images,
            memory_gb=job.needs.batch_memory_gb,
            device=device,
            on_progress=on_progress,
            checkpoint_every_s=checkpoint_every_s,
            should_stop=should_stop,
            sent_by_earlier_tries=int(store.read_note(note := note_of_sent(job.key)) or 0),
            keep_sent=lambda count: store.leave_note(note, str(count)),
            code=digest(dict(job.code)) if job.code else "",
            clock=clock,
        )
        with log, usage_of(device) as usage, deterministic(device) as record:
            job_from(job.config).run(context)
        code = facts_of_code(job, {role: _facts_in(store, key) for role, key in job.inputs.items()})
        description = facts(
            clock.seconds, request, device, record, {"shape": job.shape, "usage": usage, **code, **where}
        )
        manifest = store.commit(job.key, job.kind, output, description)
        attempt.pop_all()  # the folder is the store's now
    return manifest


def _facts_in(store: ArtifactStore, key: str) -> Facts:
    manifest = store.manifest(key)
    return {} if manifest is None else manifest.facts


def facts(
    seconds: float, request: Request, device: torch.device, record: NumericsRecord, where: Facts
) -> dict[str, Any]:
    """Describe how an artifact was made: time, machine, resources, versions, numerics; `where` is added as it is.

    Args:
        seconds: over all tries, of earlier ones up to the checkpoint that the last one continued.
    """
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    missing = missing_gpu(request.gpus, device)
    return {
        "seconds": seconds,
        "finished_at": time.time(),
        "threads": torch.get_num_threads(),
        "device": gpu or device.type,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "request": vars(request),
        "midre": version("midre"),
        "numerics": record.numerics(device),
        **({"missing_gpu": missing} if missing else {}),
        **where,
    }


def read_images(data: DataInput) -> ImageSet:
    """Read a data set.

    Raises:
        DataError: if its files changed since the job was planned.
    """
    dataset = DATASETS.build(data.dataset)
    if dataset.digest() != data.digest:
        raise DataError(f"{data.dataset.kind}: the files changed since this sweep was planned: start it again.")
    return dataset.load()


def device_for(gpus: float) -> torch.device:
    """Return the GPU if the job asks for one and this machine has it, else the CPU."""
    return torch.device("cuda" if gpus > 0 and torch.cuda.is_available() else "cpu")


def missing_gpu(gpus: float, device: torch.device) -> str:
    """Say that a job asked for a GPU and ran without one, in a line; empty if it did not."""
    if not gpus or device.type == "cuda":
        return ""
    return f"gpus {gpus:g} asked for, torch sees no GPU on node {socket.gethostname()}: ran on the CPU"
