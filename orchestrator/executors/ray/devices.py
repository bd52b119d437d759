"""What torch makes of the GPUs of each node: Ray counts GPUs, but knows neither their memory nor whether they work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.placement.machine import LocalGpus, local_gpus, unusable
from orchestrator.placement.nodes import Node

LOOK_FOR_S = 60.0
"""How long a node may take to look at its GPUs, which imports torch there."""


@ray.remote(num_cpus=0, max_calls=1)
def _local_gpus() -> LocalGpus:
    """Look at the GPUs of the node this runs on, in a process that ends with it and so leaves their memory free."""
    return local_gpus()


def look_at(node: str) -> ray.ObjectRef[LocalGpus]:
    """Have a node look at its GPUs."""
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return _local_gpus.options(scheduling_strategy=there).remote()


def gpus_of(nodes: Sequence[Node]) -> dict[str, LocalGpus]:
    """What each node with GPUs makes of them, by its id; of one that does not answer, nothing is known."""
    here = ray.get_runtime_context().get_node_id()
    looks = {node.id: look_at(node.id) for node in nodes if node.gpus and node.id != here}
    local = {node.id: local_gpus() for node in nodes if node.gpus and node.id == here}
    if looks:
        ray.wait(list(looks.values()), num_returns=len(looks), timeout=LOOK_FOR_S)
    return local | {id: _answer(look) for id, look in looks.items()}


def with_gpus(node: Node, local: LocalGpus) -> Node:
    """A node that Ray describes, with the memory of its GPUs."""
    if local.without_cuda:
        return replace(node, without_cuda=unusable(len(node.gpus), f"node {node.id[:8]}", local.without_cuda))
    return replace(node, gpus=(*local.gpus, *node.gpus)[: len(node.gpus)], mps=local.mps)


def described(nodes: Sequence[Node], local: Mapping[str, LocalGpus]) -> list[Node]:
    """Nodes that Ray describes, with what is known of their GPUs."""
    return [with_gpus(node, local[node.id]) if node.id in local else node for node in nodes]


def _answer(look: ray.ObjectRef[LocalGpus]) -> LocalGpus:
    try:
        return ray.get(look, timeout=0)
    except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError):
        return LocalGpus()
