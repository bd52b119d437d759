"""What a job is: a frozen config and the artifacts it reads, computed into a folder."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from workloads.black_boxes.meter import ServiceLimits
from workloads.context import JobContext
from workloads.core.config import ComponentConfig, FrozenConfig, Handling
from workloads.core.registry import Registry


class JobConfig(ComponentConfig):
    """Settings that determine a job's result, apart from its inputs."""

    limits: Annotated[ServiceLimits | None, Handling()] = None
    """How the target model may be asked, if it is a service and the job asks it."""


class Job(ABC):
    """One kind of computation. Its result depends on its config, its inputs and its key alone."""

    inputs: ClassVar[tuple[str, ...]] = ()
    """Roles of the artifacts it reads."""
    uses_gpu: ClassVar[bool] = True
    """Whether it computes on a GPU if it has one; a job that does not is given none unless the spec says so."""

    def __init__(self, config: JobConfig) -> None:
        self.config = config

    @abstractmethod
    def run(self, context: JobContext) -> None:
        """Compute, and leave all results as files in `context.output`."""


JOBS: Registry[JobConfig, Job] = Registry("workloads.jobs")


class _AnyJob(FrozenConfig):
    job: Annotated[JobConfig, JOBS]


def job_from(config: Mapping[str, Any]) -> Job:
    """The job that a plan describes as plain data."""
    return JOBS.build(_AnyJob.model_validate_json(json.dumps({"job": config})).job)
