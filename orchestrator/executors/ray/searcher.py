"""The search of the sweep, in the shape that Ray Tune expects."""

from __future__ import annotations

from typing import Any

import ray
from ray.tune.search import Searcher

from orchestrator.executors.base import Session

METRICS = "metrics/"
"""Begins the name of each number of a trial: Tune hands a searcher what a trial reported as one flat dictionary."""


class SweepSearcher(Searcher):
    """Gives Tune the trials that are not done yet. It saves no state: all of it is in the ledger."""

    def __init__(self, session: Session, broker: Any) -> None:
        super().__init__()
        self._session, self._broker = session, broker
        self._tune_trials: dict[str, str] = {}

    # Tune takes the string FINISHED for an answer, though its annotation does not say so.
    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The plan of the next trial with work left; cached trials are finished on the way. None: ask again later."""
        while not self._session.stop.is_requested and (trial := self._session.search.next()) is not None:
            plan = self._session.plan(trial)
            outcome = ray.get(self._broker.finish_cached.remote(plan))
            if outcome is None:
                self._tune_trials[trial_id] = trial.id
                return {"plan": plan, "broker": self._broker}
            self._session.search.finish(trial.id, outcome.metrics)
        if self._session.search.waits and not self._session.stop.is_requested:
            return None
        return Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the search of a trial's numbers, or that it failed."""
        numbers = {} if error or not result else result
        metrics = {name.removeprefix(METRICS): value for name, value in numbers.items() if name.startswith(METRICS)}
        self._session.search.finish(self._tune_trials[trial_id], metrics or None)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, for Tune pickles its searcher when it starts."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger holds all state."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger holds all state."""
