"""What is done while Ray starts: trials are planned and the data of the first jobs read, in threads."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.executors.base import Session
from orchestrator.executors.inline import InlineExecutor
from orchestrator.executors.ray.preparation import Preparation, preparation
from orchestrator.planning.graph import PlannedJob, TrialPlan
from orchestrator.planning.plan import plan
from orchestrator.sweep import Sweep
from tests.support.toy import toy_sweep
from workloads.core.config import digest
from workloads.datasets.base import DATASETS

SEARCH = {"seeds": [0], "baseline": False}


class Broker:
    """Notes what it is given, as the broker's actor would."""

    def __init__(self) -> None:
        self.images: dict[str, Any] = {}
        self.ahead: list[PlannedJob] = []

    @property
    def offer_images(self) -> Any:
        return _Call(self.images.__setitem__)

    @property
    def look_ahead(self) -> Any:
        return _Call(self.ahead.extend)


class _Call:
    def __init__(self, remote: Any) -> None:
        self.remote = remote


def session_of(sweep: Sweep) -> Session:
    search = sweep.search()
    return Session(
        search,
        lambda trial: plan(sweep.resolved, trial, search.spec_of(trial)),
        sweep.store,
        sweep.paths.ledger,
        20.0,
        sweep.plans,
    )


def prepared(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> Broker:
    """What the broker was given by the end of the preparation of a sweep; nothing is put into Ray."""
    monkeypatch.setattr("ray.put", lambda arrays: arrays)
    broker = Broker()
    with contextlib.ExitStack() as until_all_is_there, preparation(session_of(sweep), sweep.plans()[0]) as preparing:
        until_all_is_there.enter_context(preparing.handed_to(broker, lambda complete: complete))
    return broker


def heads(plans: Sequence[TrialPlan]) -> list[str]:
    return [job.key for plan in plans for job in plan.jobs if not job.inputs]


def test_the_data_of_the_first_jobs_are_read_and_all_trials_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = toy_sweep(tmp_path, tmp_path / "runs")
    broker = prepared(sweep, monkeypatch)
    assert [job.key for job in broker.ahead] == heads(sweep.plans())
    target, prior = (job for job in sweep.plans()[0].jobs if not job.inputs and job.config.get("role") != "evaluation")
    assert set(broker.images) == {digest(target.config["data"]), digest(prior.config["data"])}
    (arrays,) = broker.images[digest(target.config["data"])]
    private = DATASETS.build(sweep.resolved.spec.data.private).load()
    assert arrays.names == private.names
    assert np.array_equal(arrays.images, private.images.numpy())
    assert np.array_equal(arrays.identities, private.identities.numpy())


def test_data_that_cannot_be_read_here_are_left_to_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = toy_sweep(tmp_path, tmp_path / "runs", search=SEARCH)
    changed = sweep.resolved.model_copy(update={"public_digest": "0" * 64})
    broker = prepared(Sweep(changed, sweep.workspace), monkeypatch)
    assert sorted(images is None for images in broker.images.values()) == [False, True]


def test_data_of_jobs_that_are_done_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = toy_sweep(tmp_path, tmp_path / "runs", search=SEARCH)
    sweep.run(InlineExecutor(), spec_file=None)
    assert prepared(sweep, monkeypatch).images == {}


def test_what_is_ready_after_ray_has_gone_is_dropped() -> None:
    """A thread that called Ray then would end the process: `midre run` ended with status 1 and no word."""
    broker, plans, images = Broker(), Future[Sequence[TrialPlan]](), Future[Any]()
    with Preparation(plans, {"digits": images}).handed_to(broker, lambda complete: complete):
        pass
    images.set_result(None)
    plans.set_result([])
    assert (broker.images, broker.ahead) == ({}, [])
