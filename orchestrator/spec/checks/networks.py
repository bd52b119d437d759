"""Problems that show when networks are built: those that refuse their images, their settings or each other."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from pathlib import Path

from orchestrator.spec.checks.attacks import attack_builds
from orchestrator.spec.checks.black_box import black_box_builds
from orchestrator.spec.checks.building import Build, check_start, check_trainable, refusal, without_weights
from orchestrator.spec.checks.checkpoint import checkpoint_builds
from orchestrator.spec.checks.defenses import defense_builds
from orchestrator.spec.checks.problem import FieldProblem
from orchestrator.spec.model import Spec
from orchestrator.spec.target import TargetConfig
from workloads.core.weights import WeightsFileConfig, read_weights
from workloads.datasets.base import DATASETS
from workloads.metrics.base import METRICS, AttackMetric
from workloads.priors.base import PRIORS
from workloads.training.classifiers import Architecture

NETWORK_SECTIONS = frozenset({"target", "evaluation", "prior", "defenses", "attacks", "metrics"})
"""Sections that decide which networks are built."""


def network_problems(spec: Spec, sections: Collection[str] = NETWORK_SECTIONS) -> Iterator[FieldProblem]:
    """Build what these sections ask for, without memory for weights."""
    target = _target_architecture(spec)
    evaluation_model = target.model_copy(update={"model": spec.evaluation.model})
    builds = [
        Build(("evaluation", "model"), functools.partial(check_trainable, evaluation_model)),
        Build(("evaluation", "model", "weights"), functools.partial(check_start, evaluation_model)),
    ]
    if spec.prior is not None:
        shape = {"channels": target.channels, "image_size": target.image_size, "classes": target.classes}
        builds.append(Build(("prior",), without_weights(functools.partial(PRIORS.build, spec.prior, **shape))))
        if isinstance(spec.prior, WeightsFileConfig) and spec.prior.weights != "none":
            builds.append(Build(("prior", "weights"), functools.partial(read_weights, Path(spec.prior.weights))))
    if not isinstance(spec.target, TargetConfig):
        builds += black_box_builds(spec, target)
    elif (message := refusal(functools.partial(check_trainable, target))) is not None:
        yield FieldProblem(("target", "model"), message)
    elif not {"target", "defenses"}.isdisjoint(sections):
        builds += checkpoint_builds(spec, target)
        builds += [Build(("target", "model", "weights"), functools.partial(check_start, target))]
        builds += defense_builds(spec, target)
    builds += [*attack_builds(spec, target), *_metric_builds(spec, target)]
    for build in builds:
        if build.field[0] in sections and (problem := build.problem()) is not None:
            yield problem


def _target_architecture(spec: Spec) -> Architecture:
    """The target model without its defenses; the network of the evaluation model stands in for one not known."""
    private = spec.data.private
    return Architecture(
        model=spec.target.model if isinstance(spec.target, TargetConfig) else spec.evaluation.model,
        classes=len(DATASETS.build(private).names()),
        channels=private.channels,
        image_size=private.image_size,
    )


def _metric_builds(spec: Spec, target: Architecture) -> Iterator[Build]:
    """Networks of metrics."""
    for index, config in enumerate(spec.metrics):
        metric = METRICS.build(config)
        for network in metric.networks if isinstance(metric, AttackMetric) else ():
            architecture = target.model_copy(update={"model": network})
            yield Build(("metrics", index), without_weights(architecture.build))
            yield Build(("metrics", index), functools.partial(check_start, architecture))
