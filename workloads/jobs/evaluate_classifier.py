"""Measure a trained classifier on held-out private images."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from workloads.context import DataInput, JobContext
from workloads.datasets.base import SplitConfig
from workloads.jobs.base import JOBS, Job, JobConfig
from workloads.jobs.target import images_sent, load_target
from workloads.metrics.base import METRICS, ClassifierMetric, HeldOutEvidence, MetricConfig
from workloads.models.base import Classifier
from workloads.training.prediction import predict


class EvaluateClassifierConfig(JobConfig):
    """What to measure a classifier by."""

    version: ClassVar = 2

    kind: Literal["evaluate_classifier"] = "evaluate_classifier"
    data: DataInput
    """Private images, of which the held-out part is used."""
    split: SplitConfig
    """How images were held out of training."""
    metrics: tuple[Annotated[MetricConfig, METRICS], ...]
    """Metrics of classifiers."""


@JOBS.register(EvaluateClassifierConfig)
class EvaluateClassifier(Job):
    """Measure how well a classifier does what it was trained for.

    Source: the utility axis of Tran et al., "Random Erasing vs. Model Inversion", TMLR 2025.
    """

    inputs = ("model",)
    config: EvaluateClassifierConfig

    def run(self, context: JobContext) -> None:
        """Predict the held-out images, and write the metrics and what each image adds to them."""
        model = load_target(context.inputs["model"], context, limits=self.config.limits)
        _, data = context.load_images(self.config.data).split(self.config.split)
        logits = predict(model, data.images, device=context.device)
        network = model if isinstance(model, Classifier) else None
        evidence = HeldOutEvidence(logits, data.identities, data.images, network)
        estimates, rows = {}, {}
        for config in self.config.metrics:
            metric = METRICS.build(config)
            assert isinstance(metric, ClassifierMetric), config.kind
            rows.update({name: values.int().tolist() for name, values in metric.rows(evidence).items()})
            estimates.update({name: value.as_dict() for name, value in metric.estimates(evidence).items()})
        # Image by image, so that two classifiers can be compared on the same ones.
        context.write_json("rows.json", {"identities": evidence.identities.tolist(), "values": rows})
        protocol = {"held_out_images": len(data)} | images_sent(model)
        context.write_json("metrics.json", {"estimates": estimates, "protocol": protocol})
