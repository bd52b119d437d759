"""The broker with workers that fail as a test says: what it asks the pool for next, and what it writes down."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from orchestrator.executors.recorder import SessionRecorder
from orchestrator.executors.snapshot import Snapshot
from orchestrator.placement.nodes import Gpu, Node, Request
from orchestrator.placement.sizing import Needs
from orchestrator.planning.graph import Outcome, PlannedJob, Trial, TrialKeys, TrialPlan
from orchestrator.store.ledger import RunState, read_events

if TYPE_CHECKING:  # Ray is heavy
    from orchestrator.executors.ray.broker import Broker

FACTS = {"usage": {"gpu_memory_gb": 30.0, "memory_gb": 0.5}}


class Pool:
    """A server of one GPU of 80 GiB whose workers raise the next of `errors`, or finish their job."""

    late = False
    """Whether workers start only after somebody asked why they do not."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.errors: list[Exception | None] = []
        self.returned: list[str] = []

    def nodes(self) -> list[Node]:
        return [Node("server", 16, (Gpu(80.0),), 128.0)]

    async def acquire(self, request: Request) -> Any:
        from orchestrator.executors.ray.pool import Slot

        self.requests.append(request)
        slot = Slot(len(self.requests), self, request, "server")
        if not self.late:
            slot.started.set()
        return slot

    def why_waiting(self, slot: Any) -> str:
        if self.late:
            slot.started.set()  # now the others have left
        return "waits for 2 CPU, of 2 others hold 2"

    @property
    def run(self) -> Pool:
        return self

    async def remote(self, job: PlannedJob, request: Request, unused_gpu: str) -> dict[str, Any]:
        from ray.exceptions import RayTaskError

        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise RayTaskError("run", "a long trace", error)
        return FACTS

    def release(self, slot: Any) -> None:
        self.returned.append("released")

    def discard(self, slot: Any) -> None:
        self.returned.append("discarded")


def plan_of(*names: str) -> TrialPlan:
    """A trial of jobs of one shape, which are estimated to take 10 GiB on a GPU."""
    jobs = tuple(PlannedJob(name, "run_attack", {}, {}, shape="s", estimate_gb=10.0) for name in names)
    keys = TrialKeys((), jobs[0].key, jobs[0].key)
    return TrialPlan(Trial("t", 0, {}, 0, False), (), jobs, keys)


def run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, plan: TrialPlan, *errors: Exception | None
) -> tuple[Pool, Outcome, list[dict[str, Any]]]:
    """Run a trial; returns its pool, its outcome and what the ledger says of its jobs."""
    pool = Pool()
    pool.errors = list(errors)
    outcome = asyncio.run(broker_with(folder, monkeypatch, pool).run_trial(plan))
    events = read_events(folder / "ledger.jsonl")
    return pool, outcome, [event for event in events if event["event"].startswith("job")]


def broker_with(folder: Path, monkeypatch: pytest.MonkeyPatch, pool: Pool) -> Broker:
    """A broker with workers of this pool, its store and ledger in a folder."""
    from orchestrator.executors.ray import broker as module

    monkeypatch.setattr(module, "Pool", lambda *arguments: pool)
    monkeypatch.setattr("orchestrator.executors.recorder.trial_metrics", lambda plan, store: {})
    return module.Broker(str(folder / "store"), str(folder / "ledger.jsonl"), 20.0)


def test_a_job_out_of_gpu_memory_runs_again_alone_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out_of_memory = torch.OutOfMemoryError("CUDA out of memory.")
    pool, outcome, events = run(tmp_path, monkeypatch, plan_of("a"), out_of_memory)
    # 10.6 GiB of 80 are less than a sixth, 13.3, and more than an eighth.
    assert [(request.gpus, request.memory_gb) for request in pool.requests] == [(0.1666, 1.0), (1.0, 1.0)]
    assert pool.returned == ["discarded", "released"], "a process that ran out may still hold some of it"
    assert outcome.metrics == {}
    assert [event["event"] for event in events] == ["job_started", "job_failed", "job_started", "job_done"]
    assert (events[1]["cause"], events[1]["final"]) == ("gpu memory", False)


def test_a_job_out_of_gpu_memory_alone_fails_with_what_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out_of_memory = torch.OutOfMemoryError("CUDA out of memory.")
    pool, outcome, events = run(tmp_path, monkeypatch, plan_of("a"), out_of_memory, out_of_memory)
    assert len(pool.requests) == 2
    assert outcome.metrics is None
    assert "run_attack a: OutOfMemoryError: CUDA out of memory. (it ran with 13.3 GiB of a shared one" in outcome.error
    assert (events[-1]["cause"], events[-1]["final"]) == ("gpu memory", True)


def test_the_next_job_of_a_shape_asks_for_what_the_last_one_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1.2 x 30 GiB and CUDA's own: half of the GPU."""
    plan = plan_of("first", "second")
    first, second = plan.jobs
    chained = replace(plan, jobs=(first, replace(second, inputs={"prior": "first"})))
    pool, _, _ = run(tmp_path, monkeypatch, chained)
    assert [request.gpus for request in pool.requests] == [0.1666, 0.5]


def test_code_that_fails_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, outcome, events = run(tmp_path, monkeypatch, plan_of("a"), ValueError("a mistake"))
    assert len(pool.requests) == 1
    assert pool.returned == ["released"]
    assert outcome.error == "run_attack a: ValueError: a mistake"
    assert events[-1]["cause"] == "code"


def test_a_job_that_takes_too_long_fails_for_its_time_and_its_worker_is_not_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*arguments: object) -> dict[str, Any]:
        return await asyncio.get_running_loop().create_future()

    monkeypatch.setattr("orchestrator.executors.ray.attempts.DUMP_PATIENCE_S", 0.0)
    plan = plan_of("a")
    limited = replace(plan, jobs=(replace(plan.jobs[0], needs=Needs(timeout_s=0.01)),))
    pool = Pool()
    monkeypatch.setattr(Pool, "remote", staticmethod(hang))
    outcome = asyncio.run(broker_with(tmp_path, monkeypatch, pool).run_trial(limited))
    assert "took longer than timeout_s: 0.01" in outcome.error
    assert pool.returned == ["discarded"]
    assert [event["cause"] for event in read_events(tmp_path / "ledger.jsonl") if "cause" in event] == ["timeout"]


def test_a_run_that_stops_lets_no_job_begin_and_gives_up_those_that_save_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work_for_ever(*arguments: object) -> dict[str, Any]:
        return await asyncio.get_running_loop().create_future()

    async def begin_and_stop() -> Outcome:
        trial = asyncio.create_task(broker.run_trial(chained))
        while not (await broker.snapshot()).running:
            await asyncio.sleep(0)
        told = asyncio.create_task(broker.until_stopped())
        await broker.stop("SIGINT", grace_s=0.01)
        await told
        return await trial

    plan = plan_of("first", "second")
    first, second = plan.jobs
    chained = replace(plan, jobs=(first, replace(second, inputs={"prior": "first"})))
    monkeypatch.setattr(Pool, "remote", staticmethod(work_for_ever))
    broker = broker_with(tmp_path, monkeypatch, Pool())
    outcome = asyncio.run(begin_and_stop())
    assert outcome == Outcome(None, "the run was stopped")
    events = [event["event"] for event in read_events(tmp_path / "ledger.jsonl")]
    assert events == ["trial_started", "job_started", "sweep_stopped"], "the trial has not failed"


def test_a_job_whose_worker_cannot_start_is_said_to_wait_and_begins_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pool, "late", True)
    monkeypatch.setattr("orchestrator.executors.ray.attempts.SAY_WAITING_AFTER_S", 0.001)
    release = asyncio.Event()

    async def finish_when_started(*arguments: object) -> dict[str, Any]:
        await release.wait()
        return FACTS

    monkeypatch.setattr(Pool, "remote", finish_when_started)
    begin = SessionRecorder.start_job

    def start_job(recorder: SessionRecorder, job: PlannedJob, request: Request, **where: Any) -> None:
        begin(recorder, job, request, **where)
        release.set()

    monkeypatch.setattr(SessionRecorder, "start_job", start_job)
    _, _, events = run(tmp_path, monkeypatch, plan_of("a"))
    assert [event["event"] for event in events] == ["job_waits", "job_started", "job_done"]
    assert events[0]["reason"] == "waits for 2 CPU, of 2 others hold 2"
    state = RunState()
    state.apply(events[0])
    assert list(state.jobs_waiting) == ["a"]
    state.apply(events[1])
    assert not state.jobs_waiting


def test_data_that_the_driver_reads_are_not_read_by_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.executors.ray import shared_images as module

    read: list[str] = []

    class ReadData:
        def remote(self, data: str) -> str:
            read.append(data)
            return f"read by a worker: {data}"

    monkeypatch.setattr(module, "read_data", ReadData())
    images = module.SharedImages(offers=["faces", "lost"])

    async def ask_before_they_are_there() -> list[Any]:
        questions = [asyncio.create_task(images.get(name, name)) for name in ("faces", "lost", "other")]
        await asyncio.sleep(0)
        reference: Any = "read by the driver"
        images.offer("faces", (reference,))
        images.offer("lost", None)
        return await asyncio.gather(*questions)

    references = asyncio.run(ask_before_they_are_there())
    assert references == [("read by the driver",), ("read by a worker: lost",), ("read by a worker: other",)]
    assert sorted(read) == ["lost", "other"]


def test_an_executor_that_has_ended_is_asked_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A display may still look; Ray, which has shut down, would end the process of whoever calls it."""
    from orchestrator.executors.ray.executor import RayExecutor

    answers: list[object] = []

    class Broker:
        snapshot = type("Call", (), {"remote": staticmethod(lambda: Snapshot(jobs_run=3))})

    def get(answer: Snapshot, timeout: float) -> Snapshot:
        answers.append(answer)
        return answer

    monkeypatch.setattr("ray.get", get)
    executor = RayExecutor()
    with executor._observed(Broker()):
        assert executor.snapshot().jobs_run == 3
    assert executor.snapshot().jobs_run == 3
    assert len(answers) == 1


def test_a_job_that_is_cancelled_while_it_waits_leaves_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gave it a worker later would find its wait over, and fail."""
    from orchestrator.executors.ray.pool import Pool as RealPool

    pool = RealPool(lambda *worker: worker, None)
    monkeypatch.setattr(pool, "nodes", lambda: [])

    async def cancelled() -> int:
        waiting = asyncio.create_task(pool.acquire(Request()))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        watch = pool._watch
        assert watch is not None
        watch.cancel()
        return len(pool._queue)

    assert asyncio.run(cancelled()) == 0
