"""What a run needs before its first job and can have without Ray, done in threads while Ray starts."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from orchestrator.executors.base import Session
from orchestrator.executors.ray.worker import ImageArrays, as_arrays
from orchestrator.executors.run_job import read_images
from orchestrator.planning.graph import TrialPlan
from workloads.context import DataInput
from workloads.core.config import canonical_json, digest
from workloads.core.errors import MidreError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preparation:
    """Work under way."""

    plans: Future[Sequence[TrialPlan]]
    """Plans of all trials that are certain to be run."""
    images: dict[str, Future[ImageArrays]]
    """The data sets of the first trial, by the names under which workers ask the broker for them."""

    @contextmanager
    def handed_to(self, broker: Any, completed: Callable[[TrialPlan], TrialPlan]) -> Iterator[None]:
        """Give the broker each data set, and the first jobs of later trials, as soon as they are there.

        What comes after the block is dropped: a thread that calls Ray after it has shut down would end the process.

        Args:
            completed: adds to a plan what was not known of its jobs before Ray had started.
        """
        lock, taken = threading.Lock(), True

        def while_taken(hand_over: Callable[[Future[Any]], None], done: Future[Any]) -> None:
            with lock:
                if taken and not done.cancelled():
                    hand_over(done)

        for name, images in self.images.items():
            images.add_done_callback(functools.partial(while_taken, functools.partial(_offer, broker, name)))
        look_ahead = functools.partial(_look_ahead, broker, completed)
        self.plans.add_done_callback(functools.partial(while_taken, look_ahead))
        try:
            yield
        finally:
            with lock:
                taken = False


@contextmanager
def preparation(session: Session, first: TrialPlan) -> Iterator[Preparation]:
    """Plan all trials and read the data of the first while the block runs."""
    threads = ThreadPoolExecutor(thread_name_prefix="midre-preparation")
    try:
        images = {digest(data): threads.submit(_read, data) for data in data_to_read(session, first)}
        yield Preparation(threads.submit(session.certain_plans), images)
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def data_to_read(session: Session, plan: TrialPlan) -> list[dict[str, Any]]:
    """The data sets, as plain data, of those jobs of a plan that can begin at once and are not done."""
    jobs = [job for job in plan.jobs if not job.inputs and "data" in job.config]
    data = [job.config["data"] for job in jobs if session.store.manifest(job.key) is None]
    return list({digest(item): item for item in data}.values())


def _read(data: dict[str, Any]) -> ImageArrays:
    return as_arrays(read_images(DataInput.model_validate_json(canonical_json(data))))


def _offer(broker: Any, name: str, images: Future[ImageArrays]) -> None:
    """Put a data set where all processes of this node can read it; what cannot be read here, a worker tries to read."""
    try:
        broker.offer_images.remote(name, (ray.put(images.result()),))
    except (MidreError, OSError) as error:
        logger.warning("data are left to a worker to read: %s", error)
        broker.offer_images.remote(name, None)


def _look_ahead(broker: Any, completed: Callable[[TrialPlan], TrialPlan], plans: Future[Sequence[TrialPlan]]) -> None:
    broker.look_ahead.remote([job for plan in map(completed, plans.result()) for job in plan.jobs if not job.inputs])
