"""A sweep on a cluster of two nodes with pretended GPUs: where jobs are placed, and which share a GPU."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.store.ledger import read_events
from tests.support.toy import toy_sweep

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=2, num_gpus=1)
        yield cluster.address
    finally:
        cluster.shutdown()


def test_jobs_of_a_sweep_are_placed_on_both_nodes_and_share_a_gpu(address: str, tmp_path: Path) -> None:
    from orchestrator.executors.ray.executor import RayExecutor

    half = {"cpus": 1, "gpus": 0.5, "memory_gb": 0.5}
    resources = {"train_classifier": half, "fit_prior": half, "run_attack": half}
    sweep = toy_sweep(tmp_path, tmp_path / "runs", resources=resources)
    done = sweep.run(RayExecutor(address), spec_file=None)
    assert (done.trials_done, done.trials_failed) == (3, 0)
    events = list(read_events(sweep.paths.ledger))
    started = {event["key"]: event["time"] for event in events if event["event"] == "job_started"}
    on_gpu = [event for event in events if event["event"] == "job_done" and event["kind"] in resources]
    assert len({job["facts"]["node"] for job in on_gpu}) == 2
    assert all(len(job["facts"]["gpu_ids"]) == 1 for job in on_gpu)
    # Idle workers are filled before any job can end, so at first four jobs run at once on the two GPUs.
    assert any(
        (first["facts"]["node"], first["facts"]["gpu_ids"]) == (second["facts"]["node"], second["facts"]["gpu_ids"])
        and first["facts"]["pid"] != second["facts"]["pid"]
        and started[first["key"]] < second["time"]
        and started[second["key"]] < first["time"]
        for first, second in itertools.combinations(on_gpu, 2)
    )


def test_a_job_that_no_node_can_take_is_refused_before_anything_starts(address: str, tmp_path: Path) -> None:
    from orchestrator.errors import RequestError
    from orchestrator.executors.ray.executor import RayExecutor

    resources = {"fit_prior": {"gpus": 2.0}}
    sweep = toy_sweep(tmp_path, tmp_path / "runs", resources=resources)
    with pytest.raises(RequestError, match=r"resources\.fit_prior\.gpus: needs 2, but the largest of 3 nodes has 1"):
        sweep.run(RayExecutor(address), spec_file=None)
