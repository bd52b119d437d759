"""What each kind of job of a sweep asks for, in words, for `midre plan` and `midre validate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from orchestrator.executors.sizer import Sizer
from orchestrator.placement.nodes import Node
from orchestrator.placement.sizing import Sized
from orchestrator.planning.estimates import Estimator
from orchestrator.planning.graph import PlannedJob, TrialPlan
from orchestrator.sweep import Sweep


def sized_jobs(sweep: Sweep, plans: Sequence[TrialPlan], nodes: Sequence[Node]) -> dict[str, Sized]:
    """What the jobs of plans ask for on these nodes, by key. A local store that is not there is not created."""
    has_gpus = any(node.gpus and not node.without_cuda for node in nodes)
    estimator = Estimator()
    estimated = [estimator.estimated(plan) for plan in plans] if has_gpus else plans
    sizer = Sizer(sweep.store.latest_of if has_store(sweep) else lambda shape: None, lambda: nodes)
    return {job.key: sizer.size(job) for plan in estimated for job in plan.jobs}


def has_store(sweep: Sweep) -> bool:
    """Whether the store of a sweep is there, or is a place that opening does not create."""
    return bool(sweep.resolved.spec.storage.artifacts) or sweep.workspace.store.exists()


def in_words(sized: Sized) -> str:
    """What a job asks for and why, as in '2 CPUs, 0.125 GPU with 9.9 GiB, 1 GiB of main memory (measured)'."""
    request = sized.request
    gpu_memory = f" with {request.gpu_memory_gb:.3g} GiB" if request.gpu_memory_gb else ""
    gpu = f"{request.gpus:.3g} GPU{gpu_memory}, " if request.gpus else ""
    plural = "s" * (request.cpus != 1)
    return f"{request.cpus} CPU{plural}, {gpu}{request.memory_gb:g} GiB of main memory ({sized.reason})"


def lines_by_kind(jobs: Mapping[str, PlannedJob], sized: Mapping[str, Sized]) -> Iterator[str]:
    """One line for each kind of job; where its jobs ask for different things, all of them stand in it."""
    for kind in dict.fromkeys(job.kind for job in jobs.values()):
        distinct = dict.fromkeys(in_words(sized[job.key]) for job in jobs.values() if job.kind == kind)
        yield f"{kind}: {'; or '.join(distinct)}"
