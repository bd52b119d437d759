"""What any attack can reach, and who judges it: no evaluation model, no private data but what its target learned."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.planning.graph import PlannedJob, TrialPlan
from orchestrator.planning.plan import plan as plan_trial
from orchestrator.planning.search import Search
from orchestrator.spec.model import ResolvedSpec
from tests.support.components import config_for
from tests.support.toy import toy_sweep
from workloads.inversion.attack import ATTACKS
from workloads.jobs.base import job_from
from workloads.jobs.run_attack import RunAttackConfig


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory) -> ResolvedSpec:
    folder = tmp_path_factory.mktemp("plans")
    return toy_sweep(folder, folder / "runs").resolved


def planned(resolved: ResolvedSpec, kind: str, *, baseline: bool) -> TrialPlan:
    """The plan of a trial with one attack of a kind, at its defaults."""
    spec = resolved.spec.model_copy(update={"attacks": (config_for(ATTACKS, kind),)})
    with_attack = resolved.model_copy(update={"spec": spec})
    search = Search(spec)
    while (trial := search.next()) is not None:
        if trial.baseline is baseline:
            return plan_trial(with_attack, trial, search.spec_of(trial))
    raise AssertionError("the toy sweep has a baseline and defended trials")


def reached(plan: TrialPlan, key: str) -> list[PlannedJob]:
    """A job and all it reads, directly or through others."""
    waiting, jobs = [key], {}
    while waiting:
        job = plan.job(waiting.pop())
        jobs[job.key] = job
        waiting += job.inputs.values()
    return list(jobs.values())


@pytest.mark.parametrize("baseline", [True, False])
@pytest.mark.parametrize("kind", ATTACKS.kinds())
def test_no_attack_reaches_the_evaluation_model(resolved: ResolvedSpec, kind: str, baseline: bool) -> None:
    plan = planned(resolved, kind, baseline=baseline)
    judges = {judge.model for judge in plan.keys.judges}
    assert not judges & {job.key for job in reached(plan, plan.keys.attacks[kind].first.attack)}


@pytest.mark.parametrize("baseline", [True, False])
@pytest.mark.parametrize("kind", ATTACKS.kinds())
def test_private_data_reach_an_attack_through_the_target_model_alone(
    resolved: ResolvedSpec, kind: str, baseline: bool
) -> None:
    plan = planned(resolved, kind, baseline=baseline)
    private = resolved.spec.data.private.model_dump(mode="json")
    jobs = reached(plan, plan.keys.attacks[kind].first.attack)
    assert {job.key for job in jobs if private in _datasets(job.config)} == {plan.keys.target}


@pytest.mark.parametrize("baseline", [True, False])
@pytest.mark.parametrize("kind", ATTACKS.kinds())
def test_an_attack_is_judged_by_the_evaluation_model_and_nothing_else(
    resolved: ResolvedSpec, kind: str, baseline: bool
) -> None:
    plan = planned(resolved, kind, baseline=baseline)
    keys = plan.keys.attacks[kind].first
    assert [plan.job(key).inputs for key in keys.judged] == [
        {"attack": keys.attack, "evaluation": judge.model} for judge in plan.keys.judges
    ]


@pytest.mark.parametrize("baseline", [True, False])
def test_utility_is_measured_on_the_target_and_each_judge_on_itself(resolved: ResolvedSpec, baseline: bool) -> None:
    keys = (plan := planned(resolved, "gmi", baseline=baseline)).keys
    assert plan.job(keys.natural).inputs == {"model": keys.target}
    assert [plan.job(judge.measured).inputs for judge in keys.judges] == [
        {"model": judge.model} for judge in keys.judges
    ]


@pytest.mark.parametrize("baseline", [True, False])
def test_victim_and_judge_are_trained_apart_as_the_spec_says(resolved: ResolvedSpec, baseline: bool) -> None:
    plan = planned(resolved, "gmi", baseline=baseline)
    target, evaluation = (resolved.spec.plain()[role]["model"] for role in ("target", "evaluation"))
    roles = [("target", plan.keys.target, target)]
    judges = [("evaluation", judge.model, evaluation) for judge in plan.keys.judges]
    for role, key, model in (*roles, *judges):
        job = plan.job(key)
        assert (job.config["role"], job.config["model"]) == (role, model)
    assert [plan.job(judge.model).config["seed"] for judge in plan.keys.judges] == list(resolved.spec.evaluation.seeds)


def _datasets(config: Any) -> list[Any]:
    """Every data set that a config names, at any depth."""
    if isinstance(config, dict):
        named = [config["dataset"]] if "dataset" in config else []
        return named + [dataset for value in config.values() for dataset in _datasets(value)]
    return [dataset for value in config for dataset in _datasets(value)] if isinstance(config, (list, tuple)) else []


@pytest.mark.parametrize("kind", ATTACKS.kinds())
def test_what_an_attack_is_fitted_with_is_an_input_of_its_own(resolved: ResolvedSpec, kind: str) -> None:
    """Priors and surrogates are jobs that the plan shares, never work done inside the attack."""
    plan = planned(resolved, kind, baseline=False)
    job = plan.job(plan.keys.attacks[kind].first.attack)
    config = job_from(job.config).config
    assert isinstance(config, RunAttackConfig)
    needs_prior = any(member.needs_prior for member in config.attack.members())
    roles = [*job.inputs, *(role for key in job.inputs.values() for role in plan.job(key).inputs)]
    assert any(role.endswith(".prior") for role in roles) is needs_prior
