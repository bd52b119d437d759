"""The nodes of a cluster, each judged: its software, the store, the data, its speed, and its clock."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.errors import RequestError
from orchestrator.executors.ray.cluster import connected
from orchestrator.executors.ray.embedded import private_folder
from orchestrator.executors.ray.inspection import NodeReport, inspect_nodes
from orchestrator.placement.health import Finding, Verdict
from orchestrator.store.artifacts import ArtifactStore

if TYPE_CHECKING:  # torch is heavy
    from workloads.context import DataInput

SKEW_MATTERS_S = 5.0
"""Clocks that differ by more make times in logs and in MLflow hard to read; no result depends on them."""
SLOW_WRITE_S = 2.0
CLOCK_PATIENCE_S = 30.0


def cluster_findings(address: str | None, store: ArtifactStore, data: Sequence[DataInput]) -> Iterator[Finding]:
    """Join a cluster and judge its nodes; without an address, whether Ray could start here."""
    try:
        if address is None:
            with private_folder():
                yield Finding("Ray", Verdict.ok, f"{ray.__version__}, to be started on this machine")
            return
        with connected(address):
            nodes = [node for node in ray.nodes() if node["Alive"]]
            yield Finding("Ray", Verdict.ok, f"{ray.__version__} at {address}: {len(nodes)} nodes, the token is taken")
            for report in inspect_nodes(store, data):
                yield from _node_findings(report)
    except RequestError as error:
        yield Finding("Ray", Verdict.broken, str(error))


def _node_findings(report: NodeReport) -> Iterator[Finding]:
    subject = f"node {report.host}"
    for problem in report.problems:
        yield Finding(subject, Verdict.broken, problem)
    if report.problems:
        return
    slow = report.write_s is not None and report.write_s > SLOW_WRITE_S
    written = f"same software, same data, the store answers in {report.write_s or 0.0:.2f} s"
    yield Finding(
        subject, Verdict.warning if slow else Verdict.ok, f"{written}: a faster one saves time." if slow else written
    )
    yield clock_finding(subject, *_clock_of(report.node))


def clock_finding(subject: str, skew_s: float | None, uncertain_s: float) -> Finding:
    """How far the clock of a node is from that of this machine; None if the node did not answer in time."""
    if skew_s is None:
        return Finding(subject, Verdict.warning, f"its clock was not told within {CLOCK_PATIENCE_S:g} s.")
    text = f"its clock is {skew_s:+.1f} s from the one here"
    if abs(skew_s) - uncertain_s > SKEW_MATTERS_S:
        return Finding(subject, Verdict.warning, f"{text}: let a time service set it.")
    return Finding(subject, Verdict.ok, text)


@ray.remote(num_cpus=0)
def _clock() -> float:
    return time.time()


def _clock_of(node: str) -> tuple[float | None, float]:
    """The clock of a node less that of this machine, and by how much that may be wrong, in seconds."""
    there = _clock.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
    try:
        ray.get(there.remote(), timeout=CLOCK_PATIENCE_S)  # starts a process, which takes a while
        before = time.time()
        told = ray.get(there.remote(), timeout=CLOCK_PATIENCE_S)
        after = time.time()
    except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError):
        return None, 0.0
    return told - (before + after) / 2, (after - before) / 2
