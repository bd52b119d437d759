"""Problems of metrics: too little to measure, one side of the trade-off missing, objectives that nothing computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.spec.checks.problem import FieldProblem
from orchestrator.spec.hints import did_you_mean
from orchestrator.spec.model import Spec
from orchestrator.spec.target import TargetConfig
from workloads.datasets.base import DATASETS, held_out_of
from workloads.metrics.base import METRICS, AttackMetric, ClassifierMetric


def metric_problems(spec: Spec) -> Iterator[FieldProblem]:
    """Check that each attack, and the data, give each metric enough to measure."""
    has_traits = bool(DATASETS.build(spec.data.private).trait_table())
    training_images = _training_images(spec)
    for index, config in enumerate(spec.metrics):
        metric, field = METRICS.build(config), ("metrics", index)
        if isinstance(metric, ClassifierMetric):
            classes = len(DATASETS.build(spec.data.private).names())
            is_black_box = not isinstance(spec.target, TargetConfig)
            for message in metric.problems_with(is_black_box=is_black_box, classes=classes):
                yield FieldProblem(field, message)
        if not isinstance(metric, AttackMetric):
            continue
        if metric.needs_traits and not has_traits:
            rule = f"needs data whose traits are known, {spec.data.private.kind} has none"
            yield FieldProblem(field, f"{rule}: take avatars or leave the metric out.")
        for attack in spec.attacks:
            for message in metric.problems_with(attack, training_images=training_images):
                yield FieldProblem(field, message)


def objective_problems(spec: Spec) -> Iterator[FieldProblem]:
    """Check that both sides of the trade-off are measured, and that every objective is."""
    kinds = [METRICS.class_of(metric) for metric in spec.metrics]
    for side, example in ((ClassifierMetric, "natural_accuracy"), (AttackMetric, "attack_accuracy")):
        if not any(issubclass(kind, side) for kind in kinds):
            message = f"has none like {example}: every trial is measured on both sides of the trade, add it."
            yield FieldProblem(("metrics",), message)
            return
    names = _names(spec, len(DATASETS.build(spec.data.private).names()))
    for index, objective in enumerate(spec.search.objectives):
        if objective.metric not in names:
            near = did_you_mean(objective.metric, names)
            message = f"nothing computes {objective.metric!r}.{near} Available: {', '.join(names)}."
            yield FieldProblem(("search", "objectives", index, "metric"), message)


def _training_images(spec: Spec) -> Mapping[str, int]:
    """Number of images of each identity that the target model is trained on; empty before the images are read."""
    if spec.data.split.rule != "fraction":
        return {}
    sizes = DATASETS.build(spec.data.private).sizes().items()
    return {name: images - held_out_of(images, spec.data.split) for name, images in sizes}


def _names(spec: Spec, classes: int) -> list[str]:
    """Names of all numbers that a trial of this spec yields."""
    metrics = [METRICS.build(metric) for metric in spec.metrics]
    natural = [name for metric in metrics if isinstance(metric, ClassifierMetric) for name in metric.names(classes)]
    judges = [metric for metric in metrics if isinstance(metric, AttackMetric)]
    return natural + [
        f"{attack.label}.{name}"
        for attack in spec.attacks
        for metric in judges
        for name in metric.names_for(attack, classes)
    ]
