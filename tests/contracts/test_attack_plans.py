"""What any attack can reach, and who judges it: no evaluation model, no private data but what its target learned."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.planning.graph import PlannedJob, TrialPlan
from orchestrator.planning.plan import plan
from orchestrator.search.search import Search
from orchestrator.spec.model import ResolvedSpec
from tests.support.components import config_for
from tests.support.toy import toy_sweep
from workloads.attacks.gmi import GmiConfig
from workloads.inversion.attack import ATTACKS
from workloads.inversion.gradient_search import GradientAttack
from workloads.jobs.base import job_from

HOSTED: dict[str, Any] = {"host": GmiConfig(), "attacks": (GmiConfig(), GmiConfig(name="again", steps=3))}


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory) -> ResolvedSpec:
    folder = tmp_path_factory.mktemp("plans")
    return toy_sweep(folder, folder / "runs").resolved


def planned(resolved: ResolvedSpec, kind: str, *, baseline: bool) -> TrialPlan:
    """The plan of a trial with one attack of a kind, at its defaults."""
    config = ATTACKS.config_of(kind)
    attack = config(**{name: HOSTED[name] for name, field in config.model_fields.items() if field.is_required()})
    spec = resolved.spec.model_copy(update={"attacks": (attack,)})
    asked = resolved.model_copy(update={"spec": spec})
    trial = next(own.trial for own in toy_plans(asked) if own.trial.baseline is baseline)
    return plan(asked, trial)


def toy_plans(resolved: ResolvedSpec) -> list[TrialPlan]:
    search, plans = Search(resolved.spec, []), []
    while (trial := search.next()) is not None:
        plans.append(plan(resolved, trial))
    return plans


def reached(own: TrialPlan, role: str) -> list[PlannedJob]:
    """The job of a role and all it reads, directly or through others."""
    jobs = {job.key: job for job in own.jobs}
    waiting, found = [own.roles[role]], {}
    while waiting:
        job = jobs[waiting.pop()]
        found[job.key] = job
        waiting += job.inputs.values()
    return list(found.values())


@pytest.mark.parametrize("kind", ATTACKS.kinds())
def test_every_gradient_attack_looks_through_the_lenses(kind: str) -> None:
    """Or the attacker who knows the defense would attack as one who does not."""
    attack: Any = ATTACKS.class_of(config_for(ATTACKS, kind))
    if issubclass(attack, GradientAttack):
        assert attack.viewed_losses is GradientAttack.viewed_losses
        assert "viewed_losses" in attack.losses.__code__.co_names


@pytest.mark.parametrize("baseline", [True, False])
@pytest.mark.parametrize("kind", ATTACKS.kinds())
def test_no_attack_reaches_the_evaluation_model(resolved: ResolvedSpec, kind: str, baseline: bool) -> None:
    own = planned(resolved, kind, baseline=baseline)
    assert own.roles["evaluation"] not in {job.key for job in reached(own, f"attack/{kind}")}


@pytest.mark.parametrize("baseline", [True, False])
@pytest.mark.parametrize("kind", ATTACKS.kinds())
def test_private_data_reach_an_attack_through_the_target_model_alone(
    resolved: ResolvedSpec, kind: str, baseline: bool
) -> None:
    own = planned(resolved, kind, baseline=baseline)
    private = resolved.spec.data.private.model_dump(mode="json")
    readers = {job.key for job in reached(own, f"attack/{kind}") if private in _datasets(job.config)}
    assert readers == {own.roles["target"]}


@pytest.mark.parametrize("baseline", [True, False])
@pytest.mark.parametrize("kind", ATTACKS.kinds())
def test_an_attack_is_judged_by_the_evaluation_model_and_nothing_else(
    resolved: ResolvedSpec, kind: str, baseline: bool
) -> None:
    own = planned(resolved, kind, baseline=baseline)
    asked = {"attack": own.roles[f"attack/{kind}"], "evaluation": own.roles["evaluation"]}
    assert own.job(f"judged/{kind}").inputs == asked


@pytest.mark.parametrize("baseline", [True, False])
@pytest.mark.parametrize(("role", "model"), [("natural", "target"), ("judge", "evaluation")])
def test_utility_is_measured_on_the_target_and_the_judge_on_itself(
    resolved: ResolvedSpec, role: str, model: str, baseline: bool
) -> None:
    own = planned(resolved, "gmi", baseline=baseline)
    assert own.job(role).inputs == {"model": own.roles[model]}


@pytest.mark.parametrize("baseline", [True, False])
def test_victim_and_judge_are_trained_apart_as_the_spec_says(resolved: ResolvedSpec, baseline: bool) -> None:
    own = planned(resolved, "gmi", baseline=baseline)
    for role, asked in (("target", resolved.spec.target), ("evaluation", resolved.spec.evaluation)):
        job = own.job(role)
        assert (job.config["role"], job.config["model"]) == (role, asked.model.model_dump(mode="json"))


def _datasets(config: Any) -> list[Any]:
    """Every data set that a config names, at any depth."""
    if isinstance(config, dict):
        own = [config["dataset"]] if "dataset" in config else []
        return own + [found for value in config.values() for found in _datasets(value)]
    return [found for value in config for found in _datasets(value)] if isinstance(config, (list, tuple)) else []


@pytest.mark.parametrize("kind", ATTACKS.kinds())
def test_what_an_attack_is_fitted_with_is_an_input_of_its_own(resolved: ResolvedSpec, kind: str) -> None:
    """Priors and surrogates are jobs that the plan shares, never work done inside the attack."""
    job = planned(resolved, kind, baseline=False).job(f"attack/{kind}")
    needs_prior = any(getattr(member, "needs_prior", True) for member in ATTACKS.build(_config(job)).config.members())
    assert any(role.endswith(".prior") for role in job.inputs) is needs_prior


def _config(job: PlannedJob) -> Any:
    return job_from(job.config).config.attack  # type: ignore[attr-defined]
