"""A Tune trial that computes nothing: it asks the broker to run its jobs and reports the outcome."""

from __future__ import annotations

from typing import Any

import ray
from ray import tune

from orchestrator.planning.graph import Outcome


class ThinTrial(tune.Trainable):
    """Waits for the jobs of one trial after another; imports no torch and holds neither CPU nor GPU."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take plan and broker from the searcher."""
        self._plan, self._broker = config["plan"], config["broker"]

    def step(self) -> dict[str, Any]:
        """Wait for the broker to finish the trial's jobs; every Ray error becomes an outcome."""
        try:
            outcome: Outcome = ray.get(self._broker.run_trial.remote(self._plan))
        except ray.exceptions.RayError as error:  # nothing may escape into Tuner.fit(), which it would end
            outcome = Outcome(None, f"{type(error).__name__}: {error}")
        return {"done": True, "trial": self._plan.trial.id, "metrics": outcome.metrics, "error": outcome.error}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Serve another trial in the same process."""
        self.setup(new_config)
        return True
