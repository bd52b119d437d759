"""How a job that failed is tried again: which cause, what it asks for next, and what is said at the end."""

from __future__ import annotations

import pytest
import torch

from orchestrator.errors import DamagedArtifact
from orchestrator.executors.failures import MOST_LOST_WORKERS, Attempt, Failure, failure_of
from orchestrator.placement.nodes import Request
from orchestrator.placement.sizing import Sized

SHARE = Request(cpus=2, gpus=0.25, memory_gb=2.0, gpu_memory_gb=20.0)
SIZED = Sized(SHARE, "measured")


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "gpu memory"),
        (RuntimeError("CUDA error: out of memory"), "gpu memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "gpu memory"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "code"),
        (MemoryError(), "memory"),
        (ValueError("CUDA out of memory"), "code"),
    ],
)
def test_the_cause_is_read_off_the_error(error: Exception, cause: str) -> None:
    assert failure_of(error).cause == cause


def test_a_damaged_input_is_named() -> None:
    damage = DamagedArtifact("ab" * 32, "gone")
    assert failure_of(damage) == Failure("code", f"DamagedArtifact: {damage}", damage)


def test_a_job_without_enough_gpu_memory_runs_again_alone_on_a_gpu_and_only_once() -> None:
    alone = Attempt.begin(SIZED).next_after("gpu memory")
    assert alone is not None
    assert alone.request == Request(cpus=2, gpus=1.0, memory_gb=2.0, gpu_memory_gb=0.0)
    assert alone.next_after("gpu memory") is None
    message = alone.explain(Failure("gpu memory", "OutOfMemoryError: Tried to allocate 2 GiB."))
    assert message == (
        "OutOfMemoryError: Tried to allocate 2 GiB. (it ran with 20 GiB of a shared one, then alone on a GPU: lower "
        "its batch size, or take a larger GPU)"
    )


def test_a_share_that_was_set_without_its_memory_is_named_as_such() -> None:
    alone = Attempt.begin(Sized(Request(gpus=0.3), "GPUs set by the spec")).next_after("gpu memory")
    assert alone is not None
    assert "with 0.3 of a shared one" in alone.explain(Failure("gpu memory", "OutOfMemoryError"))


@pytest.mark.parametrize("gpus", [0.0, 1.0, 2.0])
def test_a_job_that_shares_no_gpu_gets_no_more_of_one(gpus: float) -> None:
    request = Request(gpus=gpus)
    assert Attempt.begin(Sized(request, "")).next_after("gpu memory") is None


def test_a_job_without_enough_main_memory_runs_once_more_with_twice_as_much() -> None:
    more = Attempt.begin(SIZED).next_after("memory")
    assert more is not None
    assert more.request == Request(cpus=2, gpus=0.25, memory_gb=4.0, gpu_memory_gb=20.0)
    assert more.next_after("memory") is None
    assert more.explain(Failure("memory", "killed")) == "killed (it asked for 4 GiB of main memory)"


def test_a_lost_worker_is_the_fault_of_the_job_after_five() -> None:
    attempts: list[Attempt] = []
    attempt: Attempt | None = Attempt.begin(SIZED)
    while attempt is not None:
        attempts.append(attempt)
        attempt = attempt.next_after("lost worker")
    assert len(attempts) == MOST_LOST_WORKERS == 5
    assert {tried.request for tried in attempts} == {SHARE}


def test_code_that_failed_is_not_tried_again() -> None:
    assert Attempt.begin(SIZED).next_after("code") is None
    assert Attempt.begin(SIZED).next_after("placement") is None
    assert Attempt.begin(SIZED).explain(Failure("code", "why")) == "why"
