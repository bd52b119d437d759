"""Idle workers start the first jobs of later trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.store.ledger import read_events
from tests.support.toy import toy_sweep

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_targets_of_later_trials_train_while_all_trials_wait_for_the_prior(tmp_path: Path) -> None:
    from orchestrator.executors.ray.executor import RayExecutor

    slow_prior = {"kind": "wgan_gp", "width": 2, "steps": 400, "batch_size": 8, "latent_size": 8}
    values = [0.3, 0.4, 0.5, 0.6, 0.7]
    search = {"space": {"defenses.0.max_area": {"kind": "choice", "values": values}}, "seeds": [0]}
    sweep = toy_sweep(tmp_path, tmp_path / "runs", prior=slow_prior, search=search)
    done = sweep.run(RayExecutor(), spec_file=None)
    assert (done.trials_done, done.trials_failed) == (6, 0)
    events = list(read_events(sweep.paths.ledger))
    first, *others = sweep.plans()
    prior = first.roles["prior/gmi"]
    assert {plan.roles["prior/gmi"] for plan in others} == {prior}
    moments = {(event["event"], event.get("key") or event.get("trial")): at for at, event in enumerate(events)}
    fitted = range(moments["job_started", prior], moments["job_done", prior])
    ahead = [
        plan.trial.id
        for plan in others
        if moments["job_started", plan.roles["target"]] in fitted
        and moments["job_started", plan.roles["target"]] < moments["trial_started", plan.trial.id]
    ]
    assert ahead, "no target was trained before its trial began"
