"""A job that does nothing but wait or fail, to measure and test the orchestrator."""

from __future__ import annotations

import time
from typing import Literal

from pydantic import NonNegativeFloat

from workloads.context import JobContext
from workloads.core.errors import MidreError
from workloads.jobs.base import JOBS, Job, JobConfig


class ProbeConfig(JobConfig):
    """What the probe does."""

    kind: Literal["probe"] = "probe"
    name: str = ""
    """Tells one probe from another."""
    value: float = 0.0
    """Number that it writes as the natural accuracy of its trial."""
    busy_s: NonNegativeFloat = 0.0
    """Seconds that it takes."""
    fail: str = ""
    """Message of the error it raises; it succeeds if empty."""


@JOBS.register(ProbeConfig)
class Probe(Job):
    """Write one number, after being busy for a while, or fail.

    Source: no paper; this measures the orchestrator's overhead, not a model.
    """

    uses_gpu = False
    config: ProbeConfig

    def run(self, context: JobContext) -> None:
        """Wait, then fail or write the number."""
        deadline = time.monotonic() + self.config.busy_s
        while time.monotonic() < deadline:
            time.sleep(min(0.01, self.config.busy_s))
        if self.config.fail:
            raise MidreError(self.config.fail)
        value = {"value": self.config.value, "low": self.config.value, "high": self.config.value}
        estimate = {**value, "n": 1, "method": "given"}
        context.write_json("metrics.json", {"estimates": {"natural_accuracy": estimate}, "protocol": {}})
