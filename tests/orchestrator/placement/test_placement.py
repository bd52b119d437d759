"""Placement: pure arithmetic that never gives away more than there is."""

from __future__ import annotations

import random

from orchestrator.placement.nodes import Node, Request, place, why_not


def test_no_sequence_of_placements_oversubscribes_a_node() -> None:
    draws = random.Random(0)
    for _ in range(50):
        nodes = [
            Node(str(n), draws.randint(1, 8), (1.0,) * draws.randint(0, 4), draws.randint(1, 32)) for n in range(3)
        ]
        while True:
            request = Request(draws.randint(1, 3), draws.choice([0, 0.25, 0.5, 1, 2]), draws.choice([0.5, 1.0, 4.0]))
            chosen = place(request, nodes)
            if chosen is None:
                break
            nodes = [node.without(request) if node.id == chosen.id else node for node in nodes]
            assert all(n.cpus >= 0 and n.memory_gb >= 0 and all(gpu >= 0 for gpu in n.gpus) for n in nodes)


def test_fractions_share_one_gpu_before_a_second_is_opened() -> None:
    node = Node("a", 8, (1.0, 1.0), 8)
    for _ in range(2):
        node = node.without(Request(1, 0.5, 1))
    assert sorted(node.gpus) == [0.0, 1.0]


def test_the_node_without_gpus_takes_the_job_that_needs_none() -> None:
    nodes = [Node("gpu", 2, (1.0,), 8), Node("cpu", 8, (), 8)]
    chosen = place(Request(1, 0, 1), nodes)
    assert chosen is not None
    assert chosen.id == "cpu"


def test_a_job_takes_all_that_a_node_has() -> None:
    node, request = Node("a", 2, (1.0,), 8.0), Request(2, 1, 8.0)
    assert place(request, [node]) == node
    assert node.without(request) == Node("a", 0, (0.0,), 0.0)


def test_an_impossible_request_says_what_the_largest_node_has() -> None:
    nodes = [Node("a", 2, (), 8), Node("b", 4, (1.0,), 8)]
    assert list(why_not(Request(1, 2, 1), nodes)) == [
        ("gpus", "needs 2, but the largest of 2 nodes has 1: lower it or add a node.")
    ]
