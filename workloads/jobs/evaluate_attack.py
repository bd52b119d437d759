"""Judge reconstructions by the evaluation model and by the private images they should not resemble."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from workloads.classifiers import load_classifier
from workloads.config import ComponentConfig
from workloads.context import DataInput, JobContext
from workloads.datasets.base import ImageSet, SplitConfig, split
from workloads.jobs.base import JOBS, Job, JobConfig
from workloads.metrics.base import METRICS, JudgedMetric, Metric, ReconstructionEvidence, ReconstructionMetric
from workloads.metrics.intervals import bootstrap_over_groups
from workloads.models.base import Classifier
from workloads.pictures import save_grid

SHOWN_IDENTITIES = 10


class EvaluateAttackConfig(JobConfig):
    kind: Literal["evaluate_attack"] = "evaluate_attack"
    data: DataInput
    split: SplitConfig
    metrics: tuple[Annotated[ComponentConfig, METRICS], ...]


@JOBS.register(EvaluateAttackConfig)
class EvaluateAttack(Job):
    """Judge the kept reconstructions of an attack; the only job that sees attack, judge and private images together.

    Source: the evaluation protocol of Zhang et al., CVPR 2020, section 4.
    """

    inputs = ("attack", "evaluation")
    config: EvaluateAttackConfig

    def run(self, context: JobContext) -> None:
        judge = load_classifier(context.inputs["evaluation"], device=context.device)
        made = load_file(context.inputs["attack"] / "reconstructions.safetensors")
        kept = {name: made[name][made["kept"]] for name in ("images", "identities", "restarts")}
        data = context.load_images(self.config.data)
        data = data.subset(split(data.identities, self.config.split)[0])
        evidence = _evidence(judge, kept["images"], kept["identities"], data, device=context.device)
        metrics = [METRICS.build(config) for config in self.config.metrics]
        rows, estimates = _measured(metrics, evidence, context)
        save_file(
            {**rows, "identities": kept["identities"], "restarts": kept["restarts"]},
            context.output / "rows.safetensors",
        )
        groups = kept["identities"]
        context.write_json("metrics.json", {"estimates": estimates, "protocol": _protocol(context.inputs["attack"])})
        context.write_json("identities.json", _by_identity(rows, groups, data.names, context))
        _save_pictures(kept["images"], evidence, data, context.output)


def _measured(
    metrics: Sequence[Metric], evidence: ReconstructionEvidence, context: JobContext
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Values of each reconstruction, from the metrics that have them, and every number with its interval."""
    rows: dict[str, Tensor] = {}
    estimates: dict[str, Any] = {}
    for metric in metrics:
        assert isinstance(metric, JudgedMetric), metric.config.kind
        if isinstance(metric, ReconstructionMetric):
            rows.update(metric.rows(evidence))
        found = metric.estimates(evidence, draws=functools.partial(context.generator, "bootstrap"))
        estimates.update({name: estimate.as_dict() for name, estimate in found.items()})
    return rows, estimates


@torch.no_grad()
def _evidence(
    judge: Classifier, images: Tensor, identities: Tensor, data: ImageSet, *, device: torch.device
) -> ReconstructionEvidence:
    features = _features(judge, images, device=device)
    private = _features(judge, data.images, device=device)
    logits = torch.cat([judge.head(batch.to(device)).cpu() for batch in features.split(1024)])
    return ReconstructionEvidence(logits, features, identities, private, data.identities, images, data.images)


def _features(judge: Classifier, images: Tensor, *, device: torch.device) -> Tensor:
    """Penultimate features on the CPU. Shape: (N, C, H, W), uint8 or float in [0, 1], to (N, F)."""
    batches = []
    for batch in images.split(256):
        unit = batch.float() / 255 if batch.dtype == torch.uint8 else batch
        batches.append(judge.features(judge.normalize(unit.to(device))).cpu())
    return torch.cat(batches)


def _protocol(attack: Path) -> dict[str, Any]:
    protocol: dict[str, Any] = json.loads((attack / "protocol.json").read_text(encoding="utf-8"))
    return protocol


def _by_identity(
    rows: dict[str, Tensor], groups: Tensor, names: tuple[str, ...], context: JobContext
) -> list[dict[str, Any]]:
    """One record an identity: every metric over its own reconstructions, which are what is resampled here."""
    records = []
    for identity in groups.unique().tolist():
        own = groups == identity
        estimates = {
            name: bootstrap_over_groups(
                values[own],
                torch.arange(int(own.sum())),
                generator=context.generator("bootstrap", name, identity),
                method="bootstrap over reconstructions",
            ).as_dict()
            for name, values in rows.items()
        }
        records.append({"identity": names[identity], "reconstructions": int(own.sum()), "estimates": estimates})
    return records


def _save_pictures(images: Tensor, evidence: ReconstructionEvidence, data: ImageSet, output: Path) -> None:
    """Above, the reconstruction nearest to a private image of each identity; below it, that private image."""
    distances, nearest = evidence.nearest
    shown = []
    for identity in evidence.identities.unique().tolist()[:SHOWN_IDENTITIES]:
        own = (evidence.identities == identity).nonzero().flatten()
        shown.append(int(own[distances[own].argmin()]))
    private = data.images[nearest[shown]].float() / 255
    save_grid(output / "pairs.png", torch.cat([images[shown], private]), columns=len(shown), scale=2)
