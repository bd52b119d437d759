"""The CPUs, GPUs and memory of this machine, without Ray, and in words."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.placement.nodes import Gpu, Node
from workloads.core.nvidia_driver import installed_gpus

THIS_MACHINE = "this machine"
"""Id of the one node of an embedded cluster."""
MPS_VARIABLE, MPS_FOLDER = "CUDA_MPS_PIPE_DIRECTORY", Path("/tmp/nvidia-mps")
"""Where CUDA looks for the pipes of the multi-process service: in this variable, else in this folder."""


@dataclass(frozen=True)
class LocalGpus:
    """What torch makes of the GPUs of a machine."""

    gpus: tuple[Gpu, ...] = ()
    """Those it can compute on."""
    without_cuda: str = ""
    """Why it can compute on none, in a line; empty if it can."""
    mps: bool = False
    """Whether a daemon of the multi-process service runs."""


def this_machine() -> Node:
    """This machine as the one node of an embedded cluster."""
    local = local_gpus()
    cpus = len(os.sched_getaffinity(0))
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    installed = installed_gpus()
    explained = unusable(installed, THIS_MACHINE, local.without_cuda) if installed and local.without_cuda else ""
    return Node(THIS_MACHINE, cpus, local.gpus, memory_gb, without_cuda=explained, mps=local.mps)


def local_gpus() -> LocalGpus:
    """Ask torch about the GPUs that this process sees."""
    import torch  # heavy, so only where machines are looked at

    if not torch.cuda.is_available():
        return LocalGpus(without_cuda=_why_no_cuda())
    devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    gpus = tuple(Gpu(device.total_memory / 2**30, device.name) for device in devices)
    return LocalGpus(gpus, mps=mps_runs())


def mps_runs() -> bool:
    """Whether a daemon of NVIDIA's multi-process service has its pipes where CUDA looks for them."""
    folder = Path(os.environ.get(MPS_VARIABLE) or MPS_FOLDER)
    return (folder / "control").exists()


def devices_in_words(nodes: Sequence[Node]) -> str:
    """The CPUs and GPUs of nodes, in one line, and why GPUs that are there cannot be used."""
    gpus = Counter(_described(gpu) for node in nodes if not node.without_cuda for gpu in node.gpus)
    reasons = dict.fromkeys(node.without_cuda for node in nodes if node.without_cuda)
    parts = [f"{sum(node.cpus for node in nodes):g} CPUs"]
    parts += [f"{count} x {gpu}" for gpu, count in sorted(gpus.items())] or ["no usable GPU" if reasons else "no GPU"]
    if any(node.mps for node in nodes):
        parts.append("multi-process service")
    here = [node.id for node in nodes] == [THIS_MACHINE]
    place = THIS_MACHINE if here else f"{len(nodes)} node{'s' * (len(nodes) != 1)}"
    return ". ".join([f"{place}: {', '.join(parts)}", *reasons])


def unusable(count: int, host: str, reason: str) -> str:
    """Say that a machine has GPUs on which jobs cannot run."""
    return f"{host} has {count} GPU{'s' * (count != 1)} that torch cannot use, so jobs run on CPUs: {reason}"


def _described(gpu: Gpu) -> str:
    memory = "memory unknown" if gpu.memory_gb is None else f"{gpu.memory_gb:.0f} GiB"
    return f"{gpu.name or 'GPU'} ({memory})"


def _why_no_cuda() -> str:
    """Why torch sees no GPU, as it says itself, in one line."""
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is a build for CPUs"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return f"torch {torch.__version__}: {str(error).partition('. ')[0].strip()}"
    return f"torch {torch.__version__} sees none"
