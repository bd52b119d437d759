"""Judge reconstructions by the evaluation model, and by the private images that they should not resemble."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from workloads.context import DataInput, JobContext
from workloads.core.config import content, digest
from workloads.core.pictures import save_grid
from workloads.datasets.base import DATASETS, ImageSet, SplitConfig
from workloads.jobs.base import JOBS, Job, JobConfig
from workloads.metrics.base import (
    METRICS,
    AttackMetric,
    Metric,
    MetricConfig,
    ReconstructionEvidence,
    ReconstructionMetric,
    Tried,
    over_identities,
)
from workloads.metrics.intervals import Scale, over_groups
from workloads.models.base import Classifier, ModelConfig
from workloads.training.classifiers import Architecture, load_classifier
from workloads.training.prediction import features_of

SHOWN_IDENTITIES = 10


class EvaluateAttackConfig(JobConfig):
    """What to judge reconstructions by."""

    version: ClassVar = 3

    kind: Literal["evaluate_attack"] = "evaluate_attack"
    data: DataInput
    """Private images."""
    split: SplitConfig
    """How images were held out of the training of target and judge."""
    metrics: tuple[Annotated[MetricConfig, METRICS], ...]
    """Metrics of reconstructions."""


@JOBS.register(EvaluateAttackConfig)
class EvaluateAttack(Job):
    """Judge the kept reconstructions of an attack; the only job that sees attack, judge and private images together.

    Source: the evaluation protocol of Zhang et al., CVPR 2020, section 4.
    """

    inputs = ("attack", "evaluation")
    config: EvaluateAttackConfig

    def run(self, context: JobContext) -> None:
        """Write rows, metrics, numbers of each identity, and pairs of images."""
        judge = load_classifier(context.inputs["evaluation"], device=context.device)
        rebuilt = load_file(context.inputs["attack"] / "reconstructions.safetensors")
        kept = {name: rebuilt[name][rebuilt["kept"]] for name in ("images", "identities", "restarts")}
        data = context.load_images(self.config.data)
        private, held_out = data.split(self.config.split)
        traits = DATASETS.build(self.config.data.dataset).trait_table()
        evidence = _evidence(judge, kept["images"], kept["identities"], private, held_out, traits)
        if "parts" in rebuilt:
            tried = Tried(_logits(judge, features_of(judge, rebuilt["images"])), rebuilt["identities"])
            evidence = dataclasses.replace(evidence, tried=tried)
        metrics = [METRICS.build(config) for config in self.config.metrics]
        rows, estimates = _measured(metrics, evidence, context)
        groups = kept["identities"]
        columns = {**rows, "identities": groups, "restarts": kept["restarts"]}
        # Copies, since two metrics may give the very same tensor and a file holds each once.
        save_file({name: column.clone() for name, column in columns.items()}, context.output / "rows.safetensors")
        context.write_json("metrics.json", {"estimates": estimates, "protocol": _protocol(context.inputs["attack"])})
        scales = {name: metric.scale(name) for metric in metrics for name in metric.better()}
        context.write_json("identities.json", _by_identity(rows, scales, groups, data.names))
        _save_pictures(evidence, context.output)


def _measured(
    metrics: Sequence[Metric], evidence: ReconstructionEvidence, context: JobContext
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Values of each reconstruction, from metrics that have them, and every number with its interval."""
    rows: dict[str, Tensor] = {}
    estimates: dict[str, Any] = {}
    spaces: dict[ModelConfig | None, ReconstructionEvidence] = {None: evidence}
    for metric in metrics:
        assert isinstance(metric, AttackMetric), metric.config.kind
        if metric.config.feature_network not in spaces:
            spaces[metric.config.feature_network] = _seen_by(metric.config.feature_network, evidence, context)
        seen = spaces[metric.config.feature_network]
        if isinstance(metric, ReconstructionMetric):
            values = metric.rows(seen)
            rows.update(values)
            measured = over_identities(values, seen.identities, metric)
        else:
            measured = metric.estimates(seen, context=_alone(metric, context))
        estimates.update({name: estimate.as_dict() for name, estimate in measured.items()})
    return rows, estimates


def _alone(metric: Metric, context: JobContext) -> JobContext:
    """The context of a metric: it draws the same numbers whichever metrics, part of the job's key, stand beside it."""
    files = {"attack": "reconstructions.safetensors", "evaluation": "model.safetensors"}
    inputs = {}
    for role, name in files.items():
        with (context.inputs[role] / name).open("rb") as file:
            inputs[role] = hashlib.file_digest(file, "sha256").hexdigest()
    return dataclasses.replace(context, key=digest({"metric": content(metric.config), **inputs}))


def _seen_by(
    extractor: ModelConfig | None, evidence: ReconstructionEvidence, context: JobContext
) -> ReconstructionEvidence:
    """The evidence with the features of a network that was trained elsewhere."""
    assert extractor is not None
    channels, size = evidence.images.shape[1:3]
    network = Architecture(model=extractor, classes=2, channels=channels, image_size=size).build()
    network.start_from(extractor)  # all but the head, which is not used
    network.to(context.device).eval().requires_grad_(False)
    features, private = (features_of(network, images) for images in (evidence.images, evidence.private.images))
    return dataclasses.replace(evidence, network=network, features=features, private_features=private)


def _evidence(
    judge: Classifier,
    images: Tensor,
    identities: Tensor,
    private: ImageSet,
    held_out: ImageSet,
    traits: Mapping[str, Sequence[float]],
) -> ReconstructionEvidence:
    features = features_of(judge, images)
    return ReconstructionEvidence(
        images=images,
        identities=identities,
        logits=_logits(judge, features),
        features=features,
        private=private,
        private_features=features_of(judge, private.images),
        held_out=held_out,
        network=judge,
        traits=traits,
    )


def _logits(judge: Classifier, features: Tensor) -> Tensor:
    """Shape: (R, F) to (R, classes), on the CPU."""
    return torch.cat([judge.head(batch.to(judge.mean.device)).cpu() for batch in features.split(1024)])


def _protocol(attack: Path) -> dict[str, Any]:
    protocol: dict[str, Any] = json.loads((attack / "protocol.json").read_text(encoding="utf-8"))
    return protocol


def _by_identity(
    rows: dict[str, Tensor], scales: Mapping[str, Scale], groups: Tensor, names: tuple[str, ...]
) -> list[dict[str, Any]]:
    """One record per identity: every metric over its reconstructions, with an interval for new ones of that person."""
    records = []
    for identity in groups.unique().tolist():
        kept = groups == identity
        estimates = {
            name: over_groups(values[kept], groups[kept], scale=scales[name]).as_dict() for name, values in rows.items()
        }
        records.append({"identity": names[identity], "reconstructions": int(kept.sum()), "estimates": estimates})
    return records


def _save_pictures(evidence: ReconstructionEvidence, output: Path) -> None:
    """Save the reconstruction of each identity that is nearest to a private image, and that image below it."""
    distances, nearest = evidence.nearest
    shown = []
    for identity in evidence.identities.unique().tolist()[:SHOWN_IDENTITIES]:
        candidates = (evidence.identities == identity).nonzero().flatten()
        shown.append(int(candidates[distances[candidates].argmin()]))
    private = evidence.private.images[nearest[shown]].float() / 255
    save_grid(output / "pairs.png", torch.cat([evidence.images[shown], private]), columns=len(shown), scale=2)
