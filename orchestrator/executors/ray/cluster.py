"""Start an embedded Ray or join a cluster, and list its nodes."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a CPU worker must not lose sight of GPUs

import ray

from orchestrator.errors import RequestError
from orchestrator.executors.ray.address import check_address
from orchestrator.executors.ray.devices import described, gpus_of
from orchestrator.executors.ray.embedded import loopback_only, private_folder
from orchestrator.placement.nodes import Gpu, Node

QUIET: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to the cluster at `address`, or start an embedded one that ends with the block.

    A connection that exists already, as in a test with a cluster of its own, is used and left alone.

    Raises:
        RequestError: if no cluster answers at the address within seconds, or it refuses this user.
    """
    if ray.is_initialized():
        yield
        return
    with contextlib.ExitStack() as session:
        if address is None:
            folder = session.enter_context(private_folder())
            session.enter_context(loopback_only())
            cpus = len(os.sched_getaffinity(0))
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, _temp_dir=str(folder), **QUIET)
        else:
            _join(address)
        session.callback(ray.shutdown)
        yield


def nodes_at(address: str) -> list[Node]:
    """Connect to the cluster at `address` and list its nodes, with what they make of their GPUs.

    Raises:
        RequestError: if nothing answers there.
    """
    with connected(address):
        nodes = alive_nodes()
        return described(nodes, gpus_of(nodes))


def alive_nodes() -> list[Node]:
    """List the nodes that are alive, each with everything it has, in use or not."""
    return [
        Node(
            id=node["NodeID"],
            cpus=node["Resources"].get("CPU", 0.0),
            gpus=(Gpu(),) * int(node["Resources"].get("GPU", 0.0)),
            memory_gb=node["Resources"].get("memory", 0.0) / 2**30,
            host=node["NodeManagerHostname"],
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def _join(address: str) -> None:
    check_address(address)
    try:
        ray.init(address=address, **QUIET)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        cause = str(error).partition("\n")[0] + (f" ({error.__cause__})" if error.__cause__ else "")
        raise RequestError(f"--address {address}: the Ray cluster there cannot be joined: {cause}") from error
