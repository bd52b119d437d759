"""Placement: pure arithmetic that never gives away more than there is."""

from __future__ import annotations

import random

import pytest

from orchestrator.placement.nodes import Gpu, Node, Request, place, rounded_down, why_not


def test_no_sequence_of_placements_oversubscribes_a_node() -> None:
    """Neither cores nor memory nor a GPU, by its share or by its memory."""
    draws = random.Random(0)
    for _ in range(50):
        nodes = [
            Node(
                str(n),
                draws.randint(1, 8),
                tuple(Gpu(draws.choice([None, 16.0, 80.0])) for _ in range(draws.randint(0, 4))),
                draws.randint(1, 32),
            )
            for n in range(3)
        ]
        memory_left = {(node.id, index): gpu.memory_gb for node in nodes for index, gpu in enumerate(node.gpus)}
        while True:
            gpu_memory_gb = draws.choice([0.0, 3.0, 9.0, 20.0])
            request = Request(
                draws.randint(1, 3), draws.choice([0, 0.25, 0.5, 1, 2]), draws.choice([0.5, 1.0, 4.0]), gpu_memory_gb
            )
            chosen = place(request, nodes)
            if chosen is None:
                break
            for index in chosen.gpus_for(request) or ():
                left = memory_left[chosen.id, index]
                memory_left[chosen.id, index] = None if left is None else left - gpu_memory_gb
            nodes = [node.without(request) if node.id == chosen.id else node for node in nodes]
            assert all(n.cpus >= 0 and n.memory_gb >= 0 and all(gpu.free >= 0 for gpu in n.gpus) for n in nodes)
        assert all(left is None or left > -0.05 for left in memory_left.values()), "shares are rounded to 1/10,000"


def free(node: Node) -> list[float]:
    return sorted(gpu.free for gpu in node.gpus)


def test_fractions_share_one_gpu_before_a_second_is_opened() -> None:
    node = Node("a", 8, (Gpu(), Gpu()), 8)
    for _ in range(2):
        node = node.without(Request(1, 0.5, 1))
    assert free(node) == [0.0, 1.0]


@pytest.mark.parametrize("parts", [3, 6, 8])
def test_equal_parts_fill_a_gpu(parts: int) -> None:
    node, request = Node("a", 8, (Gpu(80.0),), 8), Request(1, rounded_down(1 / parts), 1, 80 / parts)
    for _ in range(parts):
        assert node.fits(request)
        node = node.without(request)
    assert not node.fits(request)


def test_memory_counts_where_it_is_more_than_the_share() -> None:
    """20 GiB are half of a GPU of 40, and a quarter of one of 80."""
    request = Request(1, 0.25, 1, gpu_memory_gb=20.0)
    assert free(Node("small", 8, (Gpu(40.0),), 8).without(request)) == [0.5]
    assert free(Node("large", 8, (Gpu(80.0),), 8).without(request)) == [0.75]
    assert free(Node("unknown", 8, (Gpu(),), 8).without(request)) == [0.75]
    assert not Node("tiny", 8, (Gpu(16.0),), 8).fits(request)


def test_what_a_worker_holds_is_subtracted_from_the_gpu_it_is_on() -> None:
    node, half = Node("a", 8, (Gpu(), Gpu()), 8), Request(1, 0.5, 1)
    assert [gpu.free for gpu in node.without(half, (1,)).gpus] == [1.0, 0.5]


def test_the_node_without_gpus_takes_the_job_that_needs_none() -> None:
    nodes = [Node("gpu", 2, (Gpu(),), 8), Node("cpu", 8, (), 8)]
    chosen = place(Request(1, 0, 1), nodes)
    assert chosen is not None
    assert chosen.id == "cpu"


def test_a_job_takes_all_that_a_node_has() -> None:
    node, request = Node("a", 2, (Gpu(),), 8.0), Request(2, 1, 8.0)
    assert place(request, [node]) == node
    assert node.without(request) == Node("a", 0, (Gpu(free=0.0),), 0.0)


def test_an_impossible_request_says_what_the_largest_node_has() -> None:
    nodes = [Node("a", 2, (), 8), Node("b", 4, (Gpu(16.0),), 8)]
    assert list(why_not(Request(1, 2, 1), nodes)) == [
        ("gpus", "needs 2, but the largest of 2 nodes has 1: lower it or add a node.")
    ]
    assert list(why_not(Request(1, 1, 1, 20.0), nodes)) == [
        ("gpu_memory_gb", "needs 20, but the largest of 2 nodes has 16: lower it or add a node.")
    ]
