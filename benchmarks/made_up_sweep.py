"""Results of a sweep that nobody ran: trials with numbers, curves and a target model each, to measure exports with."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from orchestrator.planning.graph import Trial, TrialPlan
from orchestrator.planning.plan import plan
from orchestrator.planning.search import Search
from orchestrator.results.pooling import Draw, EstimateRecord
from orchestrator.results.sweep_result import AttackResult, SweepResult, TrialResult
from orchestrator.spec.loading import load_spec, resolve
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.ledger import run_state
from orchestrator.store.paths import Workspace
from orchestrator.tracking.export import Source
from workloads.core.config import digest

QUICKSTART = Path(__file__).parent.parent / "specs" / "quickstart.yaml"
LABEL = "gmi"
CURVES = 6
"""Numbers of a trial that are curves of its training; all others are single."""
STEPS = 10
"""Points of a curve."""
BEGAN = 1_700_000_000.0
"""When the first trial began, in seconds since 1970."""


class MadeUpSweep:
    """As many trials as are asked for, with a ledger and a store in a folder."""

    def __init__(self, folder: Path, *, trials: int, numbers: int) -> None:
        """Write the artifacts that an export reads.

        Args:
            trials: are there, one with a target model of its own each.
            numbers: of each trial, `CURVES` of them curves.
        """
        spec, source = load_spec(QUICKSTART)
        self._resolved = resolve(spec, source, nodes=None)
        self._numbers, self._random = numbers - CURVES, random.Random(0)
        self._paths = Workspace(folder).run(self._resolved.sweep)
        self._store = ArtifactStore(folder / "store")
        self._plans = [self._plan(number) for number in range(trials)]
        self._trials: list[TrialResult] = []
        self._paths.ledger.parent.mkdir(parents=True)
        self._note("sweep_started", BEGAN, sweep=self._resolved.sweep)

    @property
    def id(self) -> str:
        """Id of the sweep."""
        return self._resolved.sweep

    def end_trials(self, count: int) -> None:
        """Let the next so many trials end."""
        for number, trial_plan in enumerate(self._plans[len(self._trials) :][:count], start=len(self._trials)):
            trial, began = trial_plan.trial, BEGAN + 60 * number
            facts = {"point": trial.point, "params": trial.params, "seed": trial.seed, "baseline": trial.baseline}
            self._note("trial_started", began, trial=trial.id, **facts)
            self._train(trial_plan, began)
            result = self._result(trial_plan)
            metrics = {name: estimate["value"] for name, estimate in result.estimates().items()}
            self._note("trial_done", began + 60, trial=trial.id, metrics=metrics)
            self._trials.append(result)

    def source(self) -> Source:
        """What an export of it reads, as `midre sync` finds it."""
        return Source(
            result=lambda: SweepResult(self._resolved, tuple(self._trials), {}),
            state=run_state(self._paths.ledger),
            store=self._store,
            paths=self._paths,
            sweep=self.id,
            at_work=False,
            jobs=False,
        )

    def _note(self, event: str, time: float, **facts: Any) -> None:
        """Add an event to the ledger without waiting for the disk."""
        with self._paths.ledger.open("a") as ledger:
            ledger.write(json.dumps({"time": time, "event": event, **facts}, sort_keys=True) + "\n")

    @cached_property
    def _example(self) -> TrialPlan:
        search = Search(self._resolved.spec)
        trial = search.next()
        assert trial is not None
        return plan(self._resolved, trial, search.spec_of(trial), with_code=False)

    def _plan(self, number: int) -> TrialPlan:
        """The plan of the first trial with a target model, an attack and searched values of another."""
        key = digest({"made up": number})
        params = {"defenses.0.max_area": round(0.1 + number / 1e6, 6), "defenses.0.max_aspect": 1.0}
        trial = Trial(key[:8], number, params, seed=0, baseline=False)
        attacks = {LABEL: replace(self._example.keys.attacks[LABEL], draws=(self._draw(number),))}
        return TrialPlan(trial, ("random_erasing",), (), replace(self._example.keys, target=key, attacks=attacks))

    def _draw(self, number: int) -> Any:
        return replace(self._example.keys.attacks[LABEL].first, attack=digest({"made-up attack": number}))

    def _train(self, trial_plan: TrialPlan, began: float) -> None:
        """Leave the artifact of a target model, without its weights."""
        folder = self._store.new_attempt(trial_plan.keys.target)
        history = [
            {"step": step, "time": began + step, "metrics": {f"curve_{name}": self._value() for name in range(CURVES)}}
            for step in range(1, STEPS + 1)
        ]
        (folder / "history.json").write_text(json.dumps(history))
        facts = {"seconds": 60.0, "finished_at": began + 60, "device": "cpu"}
        self._store.commit(trial_plan.keys.target, "train_classifier", folder, facts)

    def _result(self, trial_plan: TrialPlan) -> TrialResult:
        utility = {"natural_accuracy": self._estimate()}
        names: Sequence[str] = ["attack_accuracy", *(f"number_{index}" for index in range(self._numbers - 2))]
        draw = Draw(0, 0, {name: self._estimate() for name in names}, ())
        attack = AttackResult(LABEL, (draw,), {"queries": 1}, 60.0)
        return TrialResult(trial_plan, "done", "", utility, {LABEL: attack})

    def _estimate(self) -> EstimateRecord:
        value = self._value()
        return {"value": value, "low": value / 2, "high": (1 + value) / 2, "n": 100, "method": "made up"}

    def _value(self) -> float:
        return round(self._random.random(), 6)
