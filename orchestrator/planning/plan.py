"""From a spec and a point of its search to the jobs that answer it: pure, and the same for every executor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.planning.code import code_of
from orchestrator.planning.fresh_seeds import fresh_seeds
from orchestrator.planning.graph import (
    AttackKeys,
    DrawKeys,
    JudgedKeys,
    JudgeKeys,
    MemberKeys,
    PlannedJob,
    Trial,
    TrialKeys,
    TrialPlan,
)
from orchestrator.spec.model import ResolvedSpec, Spec
from orchestrator.spec.target import ServiceTarget, TargetConfig, answers_floors
from workloads.attacks.nearest_public import NearestPublicConfig
from workloads.attacks.null import NullConfig
from workloads.context import DataInput
from workloads.core.config import content, digest, plugins_in
from workloads.inversion.attack import AttackConfig
from workloads.jobs.base import JOBS, JobConfig
from workloads.jobs.evaluate_attack import EvaluateAttackConfig
from workloads.jobs.evaluate_classifier import EvaluateClassifierConfig
from workloads.jobs.fit_prior import FitPriorConfig
from workloads.jobs.fit_surrogate import FitSurrogateConfig
from workloads.jobs.import_black_box import ImportBlackBoxConfig
from workloads.jobs.import_classifier import ImportClassifierConfig
from workloads.jobs.real_images import RealImagesConfig
from workloads.jobs.run_attack import RunAttackConfig, part_input, prior_input, surrogate_input
from workloads.jobs.train_classifier import TrainClassifierConfig
from workloads.metrics.base import METRICS, AttackMetric, ClassifierMetric, ReconstructionMetric
from workloads.priors.base import PRIORS, PriorConfig


def plan(resolved: ResolvedSpec, trial: Trial, spec: Spec, *, with_code: bool = True) -> TrialPlan:
    """The jobs of one trial with their keys, inputs before those that read them.

    Args:
        resolved: holds the digests of the data.
        spec: the spec of the trial, with its point put in.
        with_code: whether jobs hold the digests of their code, which take a moment to compute.
    """
    planner = _Planner(spec, resolved, trial, with_code)
    keys = planner.plan()
    return TrialPlan(trial, tuple(defense.kind for defense in spec.defenses), tuple(planner.jobs), keys)


def data_inputs(resolved: ResolvedSpec, spec: Spec) -> tuple[DataInput, DataInput]:
    """Private and public data of a trial's spec, as its jobs read them."""
    return (
        DataInput(dataset=spec.data.private, digest=resolved.private_digest),
        DataInput(dataset=spec.data.public, digest=resolved.public_digest),
    )


def job_key(config: JobConfig, inputs: Mapping[str, str], *, numerics: Mapping[str, Any] | None = None) -> str:
    """SHA-256 of the kind, all settings, the version of every component in them, and the keys of the inputs.

    `numerics` is what else its bits depend on, where that is part of the key.
    """
    strict = {} if numerics is None else {"numerics": dict(numerics)}
    return digest({"config": content(config), "inputs": dict(inputs), **strict})


def job_shape(config: JobConfig, input_shapes: Mapping[str, str]) -> str:
    """What jobs that take about the same memory have in common: all settings but seeds and fractions, and their inputs.

    Rates, areas and weights of losses change no tensor's size, so that trials of one search share a shape.
    """
    return digest({"config": _without_fractions(content(config)), "inputs": dict(input_shapes)})[:16]


def _without_fractions(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_fractions(item) for name, item in value.items() if name != "seed"}
    if isinstance(value, list):
        return [_without_fractions(item) for item in value]
    return None if isinstance(value, float) else value


class _Planner:
    """Collects the jobs of a trial."""

    def __init__(self, spec: Spec, resolved: ResolvedSpec, trial: Trial, with_code: bool) -> None:
        self._spec, self._trial, self._with_code = spec, trial, with_code
        self._private, self._public = data_inputs(resolved, spec)
        self._machine = content(resolved.machine) if resolved.machine else None
        self._plugins = tuple(sorted(plugins_in(spec)))
        service = spec.target if isinstance(spec.target, ServiceTarget) else None
        self._service = service.service if service is not None else None
        self._limits = service.limits if service is not None else None
        self.jobs: list[PlannedJob] = []
        self._shapes: dict[str, str] = {}

    def plan(self) -> TrialKeys:
        models = {
            seed: self._add(self._train_evaluation_model(seed)) for seed in self._seeds(self._spec.evaluation.seeds)
        }
        public = self._starting_point()
        target = self._add(self._make_target_model(), **({"public": public} if public else {}))
        utility = tuple(
            metric for metric in self._spec.metrics if issubclass(METRICS.class_of(metric), ClassifierMetric)
        )
        measure = EvaluateClassifierConfig(data=self._private, split=self._spec.data.split, metrics=utility)
        natural = self._add(measure.model_copy(update={"limits": self._limits}), model=target)
        # How good a judge is bounds what its verdicts are worth, so it is measured as well.
        judges = tuple(JudgeKeys(seed, model, self._add(measure, model=model)) for seed, model in models.items())
        attacks = {attack.label: self._attack(attack, target, judges) for attack in self._spec.attacks}
        return TrialKeys(judges=judges, target=target, natural=natural, attacks=attacks, public=public)

    def _seeds(self, of_search: Sequence[int]) -> Sequence[int]:
        """The seeds of judges or priors: those that the search draws, or as many others for a trial that confirms."""
        return of_search if self._trial.stage == "search" else fresh_seeds(of_search, len(of_search))

    def _add(self, config: JobConfig, **inputs: str) -> str:
        """Plan a job, once however often it is added; its key."""
        key = job_key(config, inputs, numerics=self._numerics(config.kind))
        if all(job.key != key for job in self.jobs):
            self._shapes[key] = shape = job_shape(config, {role: self._shapes[input] for role, input in inputs.items()})
            needs = replace(self._spec.resources.of(config.kind).needs(), uses_gpu=JOBS.class_of(config).uses_gpu)
            self.jobs.append(
                PlannedJob(
                    key,
                    config.kind,
                    config.model_dump(mode="json"),
                    inputs,
                    needs,
                    shape,
                    machine=self._machine,
                    plugins=self._plugins,
                    code=code_of(config) if self._with_code else {},
                    alone=self._service if config.limits is not None and config.limits.rate is not None else None,
                )
            )
        return key

    def _numerics(self, kind: str) -> dict[str, Any] | None:
        """Machine and resources of a kind of job, on which its bits depend, under strict numerics; else None."""
        resources = self._spec.resources.of(kind)
        return None if self._machine is None else {**self._machine, **resources.model_dump()}

    def _train_evaluation_model(self, seed: int) -> TrainClassifierConfig:
        classifier = self._spec.evaluation
        return TrainClassifierConfig(
            role="evaluation",
            data=self._private,
            split=self._spec.data.split,
            model=classifier.model,
            training=classifier.training,
            seed=seed,
        )

    def _make_target_model(self) -> JobConfig:
        """The training of the target model, or the reading of one that somebody else trained."""
        target = self._spec.target
        if not isinstance(target, TargetConfig):
            return ImportBlackBoxConfig(data=self._private, source=target.source)
        if target.source is not None:
            return ImportClassifierConfig(data=self._private, model=target.model, source=target.source)
        assert target.training is not None, "a target without a checkpoint is trained"
        return TrainClassifierConfig(
            role="target",
            data=self._private,
            split=self._spec.data.split,
            model=target.model,
            training=target.training,
            defenses=self._spec.defenses,
            seed=self._trial.seed,
        )

    def _starting_point(self) -> str | None:
        """The classifier trained on public data that a defense starts from; None where none does."""
        starts = (defense.starts_from for defense in self._spec.defenses)
        training = next((start for start in starts if start is not None), None)
        target = self._spec.target
        if training is None or not isinstance(target, TargetConfig):
            return None
        return self._add(
            TrainClassifierConfig(role="public", data=self._public, split=None, model=target.model, training=training)
        )

    def _attack(self, attack: AttackConfig, target: str, judges: Sequence[JudgeKeys]) -> AttackKeys:
        """An attack on the target model with each seed of its prior, and the judgement of what it rebuilds."""
        spec = self._spec
        config = attack.against(spec.defenses).with_prior(spec.prior and spec.prior.model_copy(update={"seeds": None}))
        seeds = self._seeds(attack_seeds(config, spec.prior))
        draws = tuple(self._draw(config, seed, target, judges) for seed in seeds)
        return AttackKeys(draws, self._ceiling(config, judges) if has_floors(spec, config) else None)

    def _draw(self, config: AttackConfig, seed: int, target: str, judges: Sequence[JudgeKeys]) -> DrawKeys:
        """An attack with one draw of its priors and surrogates, judged by every evaluation model."""
        members = {member.label: self._prepare(member, seed, target) for member in config.members()}
        inputs: dict[str, str] = {}
        for part in config.parts():
            run = self._run(part, target, _inputs_of(part, members[part.label]))
            inputs[part_input(part)] = run
            members[part.label] = replace(members[part.label], attack=run)
        run = self._run(config, target, inputs or _inputs_of(config, members[config.label]))
        has_both = has_floors(self._spec, config) and answers_floors(self._spec.target)
        floors = self._floors(config, members, target, judges) if has_both else {}
        return DrawKeys(seed, run, self._judged(run, judges), members, floors)

    def _run(self, config: AttackConfig, target: str, inputs: Mapping[str, str]) -> str:
        """The job that runs an attack."""
        job = RunAttackConfig(attack=config, public=self._public, limits=self._limits)
        return self._add(job, target=target, **inputs)

    def _judged(self, images: str, judges: Sequence[JudgeKeys], *, one_by_one: bool = False) -> tuple[str, ...]:
        """The judgement of images by every evaluation model.

        Args:
            one_by_one: by those metrics alone that look at one image at a time.
        """
        spec, kind = self._spec, ReconstructionMetric if one_by_one else AttackMetric
        metrics = tuple(metric for metric in spec.metrics if issubclass(METRICS.class_of(metric), kind))
        judge = EvaluateAttackConfig(data=self._private, split=spec.data.split, metrics=metrics)
        return tuple(self._add(judge, attack=images, evaluation=keys.model) for keys in judges)

    def _floors(
        self, config: AttackConfig, members: Mapping[str, MemberKeys], target: str, judges: Sequence[JudgeKeys]
    ) -> dict[str, JudgedKeys]:
        """What an attack has to beat: samples of each of its priors, and public images.

        Metrics of whole sets of images are left out: they need as many as the attack makes.
        """
        floors: dict[str, tuple[AttackConfig, dict[str, str]]] = {}
        with_prior = [member for member in config.members() if member.prior is not None]
        for member in with_prior:
            starts = member.candidates_per_identity
            null = NullConfig(
                prior=member.prior, restarts=starts, keep=min(config.keep, starts), identities=config.identities
            )
            prior = members[member.label].prior
            assert prior is not None, member.label
            name = "null" if len(with_prior) == 1 else f"null.{member.label}"
            floors[name] = null, {prior_input(null): prior}
        floors["nearest_public"] = NearestPublicConfig(keep=config.keep, identities=config.identities), {}
        keys = {}
        for name, (floor, inputs) in floors.items():
            run = self._run(floor, target, inputs)
            keys[name] = JudgedKeys(run, self._judged(run, judges, one_by_one=True))
        return keys

    def _ceiling(self, config: AttackConfig, judges: Sequence[JudgeKeys]) -> JudgedKeys:
        """Real images of the people that an attack attacks."""
        spec = self._spec
        images = self._add(RealImagesConfig(data=self._private, split=spec.data.split, identities=config.identities))
        return JudgedKeys(images, self._judged(images, judges, one_by_one=True))

    def _prepare(self, member: AttackConfig, seed: int, target: str) -> MemberKeys:
        """The prior and the surrogates of one attack that runs."""
        prior = None
        if member.prior is not None:
            asks_target = PRIORS.class_of(member.prior).target_access is not None
            erasing = member.teacher_erasing if asks_target else None
            config, limits = member.prior.model_copy(update={"seeds": None}), self._limits if asks_target else None
            fit = FitPriorConfig(
                data=self._public, prior=config, erasing=erasing, seed=seed if config.fitted else 0, limits=limits
            )
            prior = self._add(fit, **({"target": target} if asks_target else {}))
        surrogates = []
        for number, surrogate in enumerate(member.surrogates):
            train = FitSurrogateConfig(
                data=self._public,
                number=number,
                erasing=member.teacher_erasing,
                answers=surrogate.answers,
                model=surrogate.model,
                training=surrogate.training,
                generated_per_class=surrogate.generated_per_class,
                seed=seed,
                limits=self._limits,
            )
            from_prior = {"prior": prior} if surrogate.generated_per_class and prior is not None else {}
            surrogates.append(self._add(train, target=target, **from_prior))
        return MemberKeys(prior, tuple(surrogates))


def _inputs_of(config: AttackConfig, keys: MemberKeys) -> dict[str, str]:
    """The prior and the surrogates that an attack reads."""
    prior = {} if keys.prior is None else {prior_input(config): keys.prior}
    return prior | {surrogate_input(config, number): key for number, key in enumerate(keys.surrogates)}


def has_floors(spec: Spec, config: AttackConfig) -> bool:
    """Whether floors and ceiling of an attack are measured: the spec wants it, a metric can, and it is no floor."""
    metrics = (METRICS.class_of(metric) for metric in spec.metrics)
    is_floor = isinstance(config, NullConfig | NearestPublicConfig)
    return spec.floors and not is_floor and any(issubclass(metric, ReconstructionMetric) for metric in metrics)


def attack_seeds(config: AttackConfig, prior: PriorConfig | None) -> tuple[int, ...]:
    """The seeds that an attack's priors and surrogates are drawn with; one where it draws nothing.

    Args:
        config: the attack with its prior filled in.
        prior: the prior of the spec, whose seeds count for attacks whose priors set none.
    """
    members = config.members()
    if not any(member.surrogates or (member.prior is not None and member.prior.fitted) for member in members):
        return (0,)
    of_members = [member.prior.seeds for member in members if member.prior is not None and member.prior.seeds]
    return max(of_members, key=len, default=(prior.seeds if prior is not None else None) or (0,))
