"""What jobs ask for, worked out by hand for machines that are not here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.placement.machine import devices_in_words
from orchestrator.placement.nodes import Gpu, Node, Request
from orchestrator.placement.sizing import Needs, Usage, size, whole_gpu

LAPTOP = Node("laptop", 2, (), 16.0)
SERVER = Node("server", 16, (Gpu(80.0, "H100"),), 128.0)
SMALL = Node("small", 8, (Gpu(24.0, "L4"), Gpu(24.0, "L4")), 64.0)
NO_DRIVER = Node("paper", 4, (Gpu(),), 16.0, without_cuda="paper has 1 GPU that torch cannot use, so jobs run on CPUs")


def test_a_job_on_a_machine_without_gpus_asks_for_a_cpu_and_a_gibibyte() -> None:
    sized = size(Needs(), [LAPTOP], estimate_gb=3.0)
    assert sized.request == Request(cpus=1, gpus=0.0, memory_gb=1.0, gpu_memory_gb=0.0)
    assert sized.reason == "no GPU"


@pytest.mark.parametrize(
    ("measured_gb", "gpus", "gpu_memory_gb"),
    [
        (5.0, 0.125, 10.0),  # 1.2 x 5 + 0.6 = 6.6 of 80, at most an eighth
        (8.0, 0.1666, 80 / 6),  # 10.2: more than an eighth
        (30.0, 0.5, 40.0),  # 36.6
        (40.0, 1.0, 80.0),  # 48.6: more than half, so all of it
    ],
)
def test_a_job_asks_for_the_smallest_part_of_a_gpu_that_holds_what_was_measured(
    measured_gb: float, gpus: float, gpu_memory_gb: float
) -> None:
    request = size(Needs(), [SERVER], usage=Usage(gpu_memory_gb=measured_gb), estimate_gb=70.0).request
    assert request.gpus == gpus
    assert request.gpu_memory_gb == pytest.approx(gpu_memory_gb)


def test_the_first_of_its_shape_asks_for_an_estimate() -> None:
    sized = size(Needs(), [SERVER], estimate_gb=15.0)
    assert (sized.request.gpus, sized.request.gpu_memory_gb) == (0.25, 20.0)
    assert sized.reason == "15 GiB estimated, as none of its shape has finished"


def test_a_job_that_computes_nothing_on_a_gpu_asks_for_none_unless_the_spec_does() -> None:
    sized = size(Needs(uses_gpu=False), [SERVER])
    assert sized.request == Request(cpus=1, gpus=0.0, memory_gb=1.0, gpu_memory_gb=0.0)
    assert (sized.reason, sized.unused_gpu) == ("nothing in it is computed on a GPU", "")
    assert size(Needs(gpus=0.5, uses_gpu=False), [SERVER]).request.gpus == 0.5
    assert size(Needs(uses_gpu=False), [NO_DRIVER]).unused_gpu == ""


def test_what_cannot_be_estimated_gets_a_gpu_for_itself() -> None:
    assert size(Needs(), [SERVER]).request.gpus == 1.0


def test_shares_follow_the_smallest_gpu() -> None:
    """15.6 GiB: more than half of 24."""
    assert size(Needs(), [SERVER, SMALL], estimate_gb=15.0).request.gpus == 1.0


def test_threads_follow_from_the_machine_and_not_from_what_was_measured() -> None:
    """16 cores beside a GPU, which eight jobs may share; 4 beside each, which leaves them less than one core."""
    for measured_gb in (1.0, 60.0):
        assert size(Needs(), [SERVER], usage=Usage(gpu_memory_gb=measured_gb)).request.cpus == 2
    assert size(Needs(), [SMALL], estimate_gb=1.0).request.cpus == 1
    assert size(Needs(gpus=0.0), [SERVER]).request.cpus == 1


def test_gpus_that_torch_cannot_use_are_left_alone_and_the_reason_is_given() -> None:
    sized = size(Needs(), [LAPTOP, NO_DRIVER])
    assert (sized.request.gpus, sized.reason, sized.unused_gpu) == (0.0, NO_DRIVER.without_cuda, NO_DRIVER.without_cuda)
    decided = size(Needs(gpus=0.3), [NO_DRIVER])
    assert (decided.request.gpus, decided.unused_gpu) == (0.3, "")
    assert size(Needs(), [NO_DRIVER, SERVER], estimate_gb=1.0).unused_gpu == ""


def test_a_gpu_of_unknown_memory_is_not_shared() -> None:
    sized = size(Needs(), [Node("a", 8, (Gpu(),), 8.0)], estimate_gb=1.0)
    assert (sized.request.gpus, sized.reason) == (1.0, "the memory of the GPUs is unknown, so none is shared")


def test_every_field_of_a_spec_stands_alone() -> None:
    nodes, usage = [SERVER], Usage(memory_gb=1.0, gpu_memory_gb=5.0)
    assert size(Needs(cpus=4), nodes, usage=usage).request == Request(4, 0.125, 2.0, 10.0)
    assert size(Needs(gpus=0.3), nodes, usage=usage).request == Request(2, 0.3, 2.0, 0.0)
    assert size(Needs(memory_gb=0.5), nodes, usage=usage).request == Request(2, 0.125, 0.5, 10.0)
    assert size(Needs(gpu_memory_gb=12.0), nodes, usage=usage).request == Request(2, 0.1666, 2.0, 12.0)


@pytest.mark.parametrize(("measured_gb", "memory_gb"), [(0.5, 1.0), (0.9, 2.0), (3.0, 4.0), (15.0, 16.0)])
def test_main_memory_is_that_of_the_last_job_and_a_fifth_more(measured_gb: float, memory_gb: float) -> None:
    """In steps of one GiB, and never more than a machine has that it was enough on."""
    assert size(Needs(), [LAPTOP], usage=Usage(memory_gb=measured_gb)).request.memory_gb == memory_gb


def test_memory_that_was_measured_never_decides_how_work_is_split() -> None:
    assert Needs().batch_memory_gb == 1.0
    assert Needs(memory_gb=4.0).batch_memory_gb == 4.0


def test_a_job_alone_on_a_gpu_asks_for_all_of_it() -> None:
    assert whole_gpu(Request(2, 0.25, 3.0, 20.0)) == Request(2, 1.0, 3.0, 0.0)


def test_usage_is_read_from_manifests_that_have_it() -> None:
    assert Usage.of({"seconds": 1.0}) == Usage()
    usage = {"memory_gb": 1.5, "gpu_memory_gb": 2.5, "gpu_busy": 0.9, "gpu_allocated_gb": 2.0}
    assert Usage.of({"usage": usage}) == Usage(1.5, 2.5, 0.9)


def test_devices_are_named_in_one_line() -> None:
    assert devices_in_words([replace(LAPTOP, id="this machine")]) == "this machine: 2 CPUs, no GPU"
    assert devices_in_words([SERVER, SMALL]) == "2 nodes: 24 CPUs, 1 x H100 (80 GiB), 2 x L4 (24 GiB)"
    assert devices_in_words([NO_DRIVER]) == f"1 node: 4 CPUs, no usable GPU. {NO_DRIVER.without_cuda}"
