"""Run a sweep with Ray Tune: thin reused trials, one broker, warm workers."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # five files a trial, and none of them is read
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")  # relative paths of specs must keep their meaning

import ray
from ray import tune
from ray.tune.error import TuneError
from ray.tune.execution import class_cache
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.errors import ClusterLost, RequestError
from orchestrator.executors.base import Executor, Session
from orchestrator.executors.ray.broker import MAX_CONCURRENCY, BrokerActor
from orchestrator.executors.ray.cluster import alive_nodes, connected
from orchestrator.executors.ray.devices import described, gpus_of
from orchestrator.executors.ray.head import watched_head
from orchestrator.executors.ray.inspection import check_nodes
from orchestrator.executors.ray.mps import mps_daemon
from orchestrator.executors.ray.preparation import Preparation, preparation
from orchestrator.executors.ray.searcher import SweepSearcher
from orchestrator.executors.ray.thin_trial import ThinTrial
from orchestrator.executors.recorder import SessionRecorder
from orchestrator.executors.sizer import Sizer
from orchestrator.executors.snapshot import Snapshot, Tally
from orchestrator.executors.stopping import Stop
from orchestrator.placement.machine import LocalGpus
from orchestrator.placement.nodes import why_not
from orchestrator.planning.estimates import Estimator
from orchestrator.planning.graph import TrialPlan
from orchestrator.store.ledger import LEDGER_PATIENCE_S, Ledger
from orchestrator.store.temporary import PREFIX, mark_owned

# Tune copies these into the runtime environment of its trials, which is written to logs. Trials need none of them.
class_cache.ENV_VARS_TO_PROPAGATE.difference_update(
    [name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")]
)

TRIALS_BESIDE_CPUS = 1
"""Trials in flight beyond one for each CPU, so that CPUs have work while some trials wait for a job that all share.

Each costs an actor: two CPU seconds to start and 150 MB. Fewer when they are not needed would be better, but Tune
keeps no actor for later while its searcher has nothing to suggest, and starts each anew.
"""
HEAD = "node:__internal_head__"
"""Resource that Ray's head node alone has: trials, which compute nothing, stay on it."""


class RayExecutor(Executor):
    """Runs trials on an embedded Ray or on the cluster at an address. Ray starts only if some trial is not done yet."""

    def __init__(self, address: str | None = None, *, start_mps: bool = False) -> None:
        """Join the cluster at an address, or start a Ray here, with NVIDIA's multi-process service if that is asked."""
        self._address, self._start_mps = address, start_mps and address is None
        self._broker: Any = None
        self._asking = threading.Lock()
        """Held while the broker is asked: a thread that asks while Ray shuts down would end the process."""
        self._before = self._latest = Snapshot()

    def run(self, session: Session) -> None:
        """Finish cached trials without Ray; connect and hand the others to Tune."""
        first = self._finish_cached(session)
        if first is None:
            return
        with preparation(session, first) as preparing:
            session.announce(f"joining Ray at {self._address}" if self._address else "starting Ray on this machine ...")
            with (
                mps_daemon() if self._start_mps else nullcontext(),
                connected(self._address),
                session.stop.listening(),  # Ray has put a handler of its own in between
            ):
                self._run_connected(session, first, preparing)

    def snapshot(self) -> Snapshot:
        """What the broker says, or what it said last if it does not answer."""
        with self._asking:
            if self._broker is not None:
                with suppress(ray.exceptions.RayError, ray.exceptions.GetTimeoutError):  # an old picture beats none
                    self._latest = _sum(self._before, ray.get(self._broker.snapshot.remote(), timeout=2))
        return self._latest

    def _finish_cached(self, session: Session) -> TrialPlan | None:
        """Finish trials that are fully cached. Returns the plan of the first with work left, which it gives back."""
        with Ledger(session.ledger, patience_s=LEDGER_PATIENCE_S) as ledger:
            recorder = SessionRecorder(session.store, ledger.append, session.accepted_changes)
            while (trial := session.search.next()) is not None:
                plan = session.plan(trial)
                if not recorder.is_cached(plan):
                    session.search.give_back(trial)
                    return plan
                recorder.start_trial(plan)
                session.search.finish(trial.id, recorder.finish_trial(plan))
                self._before = self._latest = recorder.snapshot(())
        return None

    def _run_connected(self, session: Session, first: TrialPlan, preparing: Preparation) -> None:
        """Look at the nodes, make sure that the jobs fit, and run them."""
        gpus = self._gpus_of_nodes(first)
        nodes = described(alive_nodes(), gpus or {})
        shares_gpus = gpus is not None and any(node.gpus and not node.without_cuda for node in nodes)
        completed = Estimator().estimated if shares_gpus else _unchanged
        first = completed(first)
        self._check_placement(first, Sizer(session.store.latest_of, lambda: nodes))
        check_nodes(session.store, session.data)
        if session.stop.is_requested:
            return
        planned = session.plan
        session = replace(session, plan=lambda trial: completed(planned(trial)))
        broker = self._start_broker(session, gpus, offers=list(preparing.images))
        broker.warm.remote(first)
        with preparing.handed_to(broker, completed):
            self._run_trials(session, broker)

    @staticmethod
    def _gpus_of_nodes(plan: TrialPlan) -> dict[str, LocalGpus] | None:
        """What nodes make of their GPUs; None if the spec sets every share, so that nobody has to ask them."""
        return None if all(job.needs.gpus is not None for job in plan.jobs) else gpus_of(alive_nodes())

    @staticmethod
    def _check_placement(plan: TrialPlan, sizer: Sizer) -> None:
        """Refuse a plan with a job that no node could ever take.

        Raises:
            RequestError: with the resource that is too small.
        """
        for job in plan.jobs:
            for resource, message in why_not(sizer.size(job).request, sizer.nodes()):
                raise RequestError(f"resources.{job.kind}.{resource}: {message}")

    @staticmethod
    def _start_broker(session: Session, gpus: Mapping[str, LocalGpus] | None, offers: Sequence[str]) -> Any:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = BrokerActor.options(num_cpus=0, max_concurrency=MAX_CONCURRENCY, scheduling_strategy=here)
        ledger = str(session.ledger.absolute())
        return options.remote(
            session.store.root,
            ledger,
            session.checkpoint_every_s,
            gpus=gpus,
            offers=offers,
            accepted_changes=tuple(session.accepted_changes),
        )

    def _run_trials(self, session: Session, broker: Any) -> None:
        """Let Tune run all trials, whose jobs belong to the broker."""
        searcher = SweepSearcher(session, broker)
        with (
            _owned_folder() as folder,
            _losses_named(),
            watched_head(),
            session.stop.followed_by(lambda: _end_in_order(broker, session.stop)),
            self._observed(broker),
        ):
            tune.Tuner(
                tune.with_resources(ThinTrial, tune.PlacementGroupFactory([{HEAD: 0.001}])),
                tune_config=tune.TuneConfig(
                    search_alg=searcher, num_samples=-1, max_concurrent_trials=_concurrency(), reuse_actors=True
                ),
                run_config=tune.RunConfig(
                    storage_path=folder,
                    name="sweep",
                    verbose=0,
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            ).fit()
            self._latest = _sum(self._before, ray.get(broker.snapshot.remote()))
        ray.kill(broker)

    @contextmanager
    def _observed(self, broker: Any) -> Iterator[None]:
        """Let other threads ask the broker for the time of the block."""
        self._broker = broker
        try:
            yield
        finally:
            with self._asking:
                self._broker = None


@contextmanager
def _owned_folder() -> Iterator[str]:
    """A temporary folder for Tune, which is removed at the next start if this process is killed."""
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}tune-") as folder:
        mark_owned(Path(folder))
        yield folder


@contextmanager
def _losses_named() -> Iterator[None]:
    """Raise what Ray and Tune raise of a broker that is gone as one line."""
    try:
        yield
    except (ray.exceptions.RayActorError, TuneError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ClusterLost(f"the process that owns this run's jobs has gone: {reason}") from error


def _end_in_order(broker: Any, stop: Stop) -> None:
    """Have the broker end its jobs, which makes all trials end."""
    with suppress(ray.exceptions.RayError):  # a broker that is gone has ended them
        ray.get(broker.stop.remote(stop.reason, stop.grace_s))


def _unchanged(plan: TrialPlan) -> TrialPlan:
    return plan


def _concurrency() -> int:
    """How many trials to have in flight."""
    return int(sum(node.cpus for node in alive_nodes())) + TRIALS_BESIDE_CPUS


def _sum(before: Snapshot, after: Snapshot) -> Snapshot:
    """Add what was finished from the cache before Ray started to what came after."""
    groups = {**before.tallies, **after.tallies}
    none = Tally()
    return replace(
        after,
        jobs_cached=before.jobs_cached + after.jobs_cached,
        trials_done=before.trials_done + after.trials_done,
        tallies={group: before.tallies.get(group, none) + after.tallies.get(group, none) for group in groups},
    )
