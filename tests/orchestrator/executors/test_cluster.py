"""Sweeps on a Ray cluster of two nodes with pretended GPUs: their numbers, where jobs are placed, which share a GPU,
and what happens when a worker is killed. All use one cluster, since each takes seconds to start.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.errors import RequestError
from orchestrator.executors.inline import InlineExecutor
from orchestrator.executors.snapshot import Snapshot
from orchestrator.planning.plan import data_inputs
from orchestrator.store.ledger import read_events
from orchestrator.sweep import Sweep
from tests.support.processes import children_of, end, name_of, wait_until
from tests.support.toy import digests, finished_jobs, numbers, toy_sweep
from workloads.core.checkpoints import load_state

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of 2 CPUs and a GPU here, and a CPU and a GPU there."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 2, "num_gpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        cluster.add_node(num_cpus=1, num_gpus=1)
        yield cluster.address
    finally:
        cluster.shutdown()


HALF_A_GPU = {"cpus": 1, "gpus": 0.5, "memory_gb": 0.5}
RESOURCES = {
    "fit_prior": {**HALF_A_GPU, "memory_gb": 0.6},  # so its worker has to make room for one of the others
    "train_classifier": HALF_A_GPU,
    "evaluate_classifier": HALF_A_GPU,
    "run_attack": HALF_A_GPU,
    "evaluate_attack": HALF_A_GPU,
}
AREAS = {"defenses.0.max_area": {"kind": "choice", "values": [0.3, 0.4, 0.5, 0.6]}}


@dataclass(frozen=True)
class Finished:
    """A sweep that ran on the cluster, and what it counted."""

    sweep: Sweep
    counts: Snapshot
    announced: list[str]
    """Lines that the user was told."""

    @property
    def events(self) -> list[dict[str, Any]]:
        return list(read_events(self.sweep.paths.ledger))


def five_trials(folder: Path) -> Sweep:
    """Five trials, one more than are under way at once on 3 CPUs; their prior takes longer than their targets."""
    prior = {"kind": "wgan_gp", "width": 2, "steps": 400, "batch_size": 8, "latent_size": 8}
    search = {"space": AREAS, "seeds": [0]}
    return toy_sweep(folder, folder / "runs", prior=prior, search=search, resources=RESOURCES)


@pytest.fixture(scope="module")
def finished(address: str, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    from orchestrator.executors.ray.executor import RayExecutor

    sweep = five_trials(tmp_path_factory.mktemp("cluster"))
    announced: list[str] = []
    counts = sweep.run(RayExecutor(address), spec_file=None, announce=announced.append)
    return Finished(sweep, counts, announced)


def test_ray_finishes_every_trial_and_runs_each_job_once(finished: Finished) -> None:
    assert (finished.counts.trials_done, finished.counts.trials_failed) == (5, 0)
    assert set(finished_jobs(finished.sweep).values()) == {1}


def test_the_doctor_judges_every_other_node(address: str, tmp_path: Path) -> None:
    from orchestrator.executors.ray.health import cluster_findings
    from orchestrator.store.artifacts import ArtifactStore

    findings = list(cluster_findings(address, ArtifactStore(tmp_path), ()))
    assert [finding.verdict.value for finding in findings] == ["ok"] * 3
    assert "2 nodes" in findings[0].text
    assert "same software, same data" in findings[1].text
    assert "its clock is" in findings[2].text


def test_what_ray_does_before_the_first_job_is_said(finished: Finished, address: str) -> None:
    assert finished.announced == [f"joining Ray at {address}"]


def test_ray_gives_the_numbers_of_the_inline_executor_bit_for_bit(finished: Finished, tmp_path: Path) -> None:
    inline = five_trials(tmp_path)
    inline.run(InlineExecutor(), spec_file=None)
    assert digests(finished.sweep) == digests(inline)
    assert numbers(finished.sweep) == numbers(inline)


def test_jobs_of_a_sweep_are_placed_on_both_nodes_and_share_a_gpu(finished: Finished) -> None:
    started = {event["key"]: event["time"] for event in finished.events if event["event"] == "job_started"}
    jobs = [event for event in finished.events if event["event"] == "job_done"]
    assert len({job["facts"]["node"] for job in jobs}) == 2
    assert all(len(job["facts"]["gpu_ids"]) == 1 for job in jobs)
    # Workers take seconds to start and are given their first jobs at once, so two of those overlap on one GPU.
    assert any(
        (first["facts"]["node"], first["facts"]["gpu_ids"]) == (second["facts"]["node"], second["facts"]["gpu_ids"])
        and first["facts"]["pid"] != second["facts"]["pid"]
        and started[first["key"]] < second["time"]
        and started[second["key"]] < first["time"]
        for first, second in itertools.combinations(jobs, 2)
    )


def test_targets_of_later_trials_train_while_all_trials_wait_for_the_prior(finished: Finished) -> None:
    first, *later = finished.sweep.plans()
    prior = first.keys.attacks["gmi"].first.members["gmi"].prior
    assert {plan.keys.attacks["gmi"].first.members["gmi"].prior for plan in later} == {prior}
    moments = {
        (event["event"], event.get("key") or event.get("trial")): moment for moment, event in enumerate(finished.events)
    }
    fitted = range(moments["job_started", prior], moments["job_done", prior])
    ahead = [
        plan.trial.id
        for plan in later
        if moments["job_started", plan.keys.target] in fitted
        and moments["job_started", plan.keys.target] < moments["trial_started", plan.trial.id]
    ]
    assert ahead, "no target was trained before its trial began"


def test_a_job_that_no_node_can_take_is_refused_before_anything_starts(address: str, tmp_path: Path) -> None:
    from orchestrator.executors.ray.executor import RayExecutor

    sweep = toy_sweep(tmp_path, tmp_path / "runs", resources={**RESOURCES, "fit_prior": {"gpus": 2.0}})
    with pytest.raises(RequestError, match=r"resources\.fit_prior\.gpus: needs 2, but the largest of 2 nodes has 1"):
        sweep.run(RayExecutor(address), spec_file=None)


def test_a_node_with_other_data_or_another_store_is_named_before_the_first_job(address: str, tmp_path: Path) -> None:
    from orchestrator.executors.ray.cluster import connected
    from orchestrator.executors.ray.inspection import check_nodes

    sweep = toy_sweep(tmp_path, tmp_path / "runs")
    data = data_inputs(sweep.resolved, sweep.resolved.spec)
    with connected(address):
        check_nodes(sweep.store, data)
        with pytest.raises(RequestError, match=r"^node \S+: digits .*has other files there than here"):
            check_nodes(sweep.store, [data[0].model_copy(update={"digest": "0" * 64})])
        sweep.store.files.root = str(tmp_path / "elsewhere")  # as if the same path were another folder there
        with pytest.raises(RequestError, match=r"^node \S+: the store \S+elsewhere is another folder there"):
            check_nodes(sweep.store, data)
    assert not list((tmp_path / "runs" / "store" / "notes").iterdir()), "notes are taken away"


def test_a_worker_killed_during_training_changes_no_bit_of_the_results(address: str, tmp_path: Path) -> None:
    from orchestrator.executors.ray.executor import RayExecutor

    changes: dict[str, Any] = {
        "target": {"model": {"kind": "small_cnn", "width": 2, "stages": 2}, "training": {"epochs": 400}},
        "search": {"space": {}, "seeds": [0]},
        "defenses": [],
        "storage": {"checkpoint_every_s": 0.2},
    }
    undisturbed = toy_sweep(tmp_path, tmp_path / "undisturbed", **changes)
    undisturbed.run(InlineExecutor(), spec_file=None)
    sweep = toy_sweep(tmp_path, tmp_path / "runs", **changes)
    plan = sweep.plans()[0]
    target = plan.job(plan.keys.target)
    checkpoint = sweep.store.checkpoint_file(target.key)
    over = threading.Event()
    kept: list[tuple[int, float]] = []  # epoch of the checkpoint when the worker was killed, and when that was

    def kill_the_worker() -> None:
        wait_until(lambda: checkpoint.exists() or over.is_set())
        workers = [child for child in children_of(psutil.Process()) if name_of(child).startswith("ray::Worker.run")]
        try:
            for worker in workers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.suspend()  # so that the checkpoint is the one that the next try finds
            kept.append((load_state(checkpoint)["job"]["epoch"], time.time()))
        finally:
            end(workers)

    killer = threading.Thread(target=kill_the_worker)
    killer.start()
    try:
        counts = sweep.run(RayExecutor(address), spec_file=None)
    finally:
        over.set()
        killer.join()
    events = list(read_events(sweep.paths.ledger))
    requests = [event["request"] for event in events if event["event"] == "job_started"]
    assert {request["gpus"] for request in requests} == {0.0}, "the GPUs of this cluster exist on paper only"
    lost = [event for event in events if event["event"] == "job_failed"]
    assert target.key in {event["key"] for event in lost}
    assert {event["cause"] for event in lost} == {"lost worker"}
    assert (counts.trials_done, counts.trials_failed) == (1, 0)
    assert digests(sweep) == digests(undisturbed)
    ((epoch, killed_at),) = kept
    history = sweep.store.read_json(target.key, "history.json")
    after = [row["step"] for row in history if row["time"] > killed_at]
    assert after == list(range(epoch + 1, 401)), "the next try continued from the checkpoint"
    assert [row["step"] for row in history] == list(range(1, 401))
