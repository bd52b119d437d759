"""From a spec and one assignment to the jobs that answer it: pure, and the same for every executor."""

from __future__ import annotations

from typing import Any

from orchestrator.planning.graph import PlannedJob, Request, Trial, TrialPlan
from orchestrator.spec.apply import applied, undefended
from orchestrator.spec.model import ClassifierConfig, ResolvedSpec, Spec
from workloads.context import DataInput
from workloads.core.config import content, digest
from workloads.inversion.attack import AttackConfig
from workloads.jobs.base import JobConfig
from workloads.jobs.evaluate_attack import EvaluateAttackConfig
from workloads.jobs.evaluate_classifier import EvaluateClassifierConfig
from workloads.jobs.fit_prior import FitPriorConfig
from workloads.jobs.fit_surrogate import FitSurrogateConfig
from workloads.jobs.run_attack import RunAttackConfig
from workloads.jobs.train_classifier import TrainClassifierConfig
from workloads.metrics.base import METRICS, ClassifierMetric
from workloads.priors.base import PRIORS


def plan(resolved: ResolvedSpec, trial: Trial) -> TrialPlan:
    """The jobs of one trial with their keys, inputs before those that read them."""
    spec = undefended(resolved.spec) if trial.baseline else applied(resolved.spec, trial.params)
    private = DataInput(dataset=spec.data.private, digest=resolved.private_digest)
    public = DataInput(dataset=spec.data.public, digest=resolved.public_digest)
    judge_metrics, utility_metrics = _metrics(spec)
    build = _Builder(spec)
    measured: dict[str, Any] = {"data": private, "split": spec.data.split}
    evaluation = build.job("evaluation", _classifier(spec.evaluation, role="evaluation", **measured))
    target_config = _classifier(spec.target, role="target", defenses=spec.defenses, seed=trial.seed, **measured)
    target = build.job("target", target_config, **_starting_point(spec, public, build))
    build.job("natural", EvaluateClassifierConfig(metrics=utility_metrics, **measured), model=target)
    # How good the judge is bounds what its verdicts are worth, so it is measured as well.
    build.job("judge", EvaluateClassifierConfig(metrics=utility_metrics, **measured), model=evaluation)
    for asked in spec.attacks:
        assert isinstance(asked, AttackConfig)
        config = asked.against(spec.defenses).with_prior(spec.prior)
        inputs = _knowledge(config, public, target, build)
        attack = build.job(f"attack/{asked.label}", RunAttackConfig(attack=config, public=public), **inputs)
        judge = EvaluateAttackConfig(metrics=judge_metrics, **measured)
        build.job(f"judged/{asked.label}", judge, attack=attack, evaluation=evaluation)
    return TrialPlan(trial, tuple(defense.kind for defense in spec.defenses), tuple(build.jobs), build.roles)


def job_key(config: JobConfig, inputs: dict[str, str]) -> str:
    """SHA-256 of the kind, all settings, the version of every component in them, and the keys of the inputs."""
    return digest({"config": content(config), "inputs": inputs})


class _Builder:
    """Collects the jobs of a trial by role."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self.jobs: list[PlannedJob] = []
        self.roles: dict[str, str] = {}

    def job(self, role: str, config: JobConfig, **inputs: str) -> str:
        key = job_key(config, inputs)
        self.roles[role] = key
        if any(job.key == key for job in self.jobs):
            return key
        request: Request = getattr(self._spec.resources, config.kind).request()
        self.jobs.append(PlannedJob(key, config.kind, config.model_dump(mode="json"), inputs, request))
        return key


def _classifier(config: ClassifierConfig, **rest: Any) -> TrainClassifierConfig:
    return TrainClassifierConfig(model=config.model, training=config.training, **rest)


def _starting_point(spec: Spec, public: DataInput, build: _Builder) -> dict[str, str]:
    """The classifier trained on public data that a defense begins with, as an input; nothing where none does."""
    asked = (defense.starts_from for defense in spec.defenses)
    training = next((own for own in asked if own is not None), None)
    if training is None:
        return {}
    config = TrainClassifierConfig(role="public", data=public, split=None, model=spec.target.model, training=training)
    return {"public": build.job("public", config)}


def _knowledge(config: AttackConfig, public: DataInput, target: str, build: _Builder) -> dict[str, str]:
    """What an attack is given: the target model, and for each of its members a prior and surrogates."""
    inputs = {"target": target}
    for member in config.members():
        prior = {}
        if member.prior is not None:
            taught = PRIORS.class_of(member.prior).target_access is not None
            fit = FitPriorConfig(data=public, prior=member.prior, erasing=member.teacher_erasing if taught else None)
            prior = {"prior": build.job(f"prior/{member.label}", fit, **({"target": target} if taught else {}))}
            inputs[f"{member.label}.prior"] = prior["prior"]
        for number, surrogate in enumerate(member.surrogates):
            surrogate_config = FitSurrogateConfig(
                data=public, number=number, erasing=member.teacher_erasing, **dict(surrogate)
            )
            asked = {"target": target} | (prior if surrogate.generated_per_class else {})
            role = f"surrogate.{number}"
            inputs[f"{member.label}.{role}"] = build.job(f"{role}/{member.label}", surrogate_config, **asked)
    return inputs


def _metrics(spec: Spec) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Metrics of reconstructions and metrics of classifiers."""
    utility = tuple(own for own in spec.metrics if issubclass(METRICS.class_of(own), ClassifierMetric))
    return tuple(own for own in spec.metrics if own not in utility), utility
