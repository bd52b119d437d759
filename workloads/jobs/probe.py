"""A job that does what it is told, to measure and test whatever runs jobs."""

from __future__ import annotations

import time
from typing import Literal

from pydantic import NonNegativeFloat

from workloads.context import JobContext
from workloads.core.errors import MidreError
from workloads.jobs.base import JOBS, Job, JobConfig


class ProbeConfig(JobConfig):
    kind: Literal["probe"] = "probe"
    name: str = ""
    """Only tells one probe from another."""
    value: float = 0.0
    """Written as the natural accuracy of whatever trial it belongs to."""
    busy_s: NonNegativeFloat = 0.0
    fail: str = ""
    """Raise this message."""


@JOBS.register(ProbeConfig)
class Probe(Job):
    """Write one number, after being busy for a while, or fail.

    Source: no paper; this measures the orchestrator's overhead, not a model.
    """

    config: ProbeConfig

    def run(self, context: JobContext) -> None:
        deadline = time.monotonic() + self.config.busy_s
        while time.monotonic() < deadline:
            time.sleep(min(0.01, self.config.busy_s))
        if self.config.fail:
            raise MidreError(self.config.fail)
        value = {"value": self.config.value, "low": self.config.value, "high": self.config.value}
        estimate = {**value, "n": 1, "method": "given"}
        context.write_json("metrics.json", {"estimates": {"natural_accuracy": estimate}, "protocol": {}})
