"""Fit a generative prior on public data, and on a target model's answers if the prior asks for them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from workloads.context import DataInput, JobContext
from workloads.core.config import Addition
from workloads.core.networks import load_network, save_network
from workloads.core.pictures import save_grid
from workloads.defenses.random_erasing import RandomErasingConfig
from workloads.inversion.memory_batches import MemoryBatches
from workloads.jobs.base import JOBS, Job, JobConfig
from workloads.jobs.target import TargetModel, images_sent, load_target
from workloads.jobs.teacher import teacher
from workloads.metrics.random_features import sample_quality
from workloads.observation.oracles import LabelOracle
from workloads.priors.base import PRIORS, Prior, PriorConfig

SHOWN = 64  # samples in the picture
QUALITY_SAMPLES = 2000
SAMPLE_BATCH = 100


class FitPriorConfig(JobConfig):
    """Which prior to fit, and on what."""

    version: ClassVar[int] = 3

    kind: Literal["fit_prior"] = "fit_prior"
    data: DataInput
    """Public images."""
    prior: Annotated[PriorConfig, PRIORS]
    """Architecture and fitting of the prior."""
    erasing: RandomErasingConfig | None = None
    """If set, the target model answers on images erased like this, as for an attacker who knows its defense."""
    seed: Annotated[int, Addition()] = 0
    """Other seeds give other weights and batches."""


@JOBS.register(FitPriorConfig)
class FitPrior(Job):
    """Fit a prior on public images and show samples of it beside real ones.

    Source: the public-knowledge distillation of Zhang et al., CVPR 2020, section 3.2.
    """

    inputs = ("target",)
    config: FitPriorConfig

    def run(self, context: JobContext) -> None:
        """Fit the prior; write it, its queries, its sample quality and a sheet of samples."""
        data = context.load_images(self.config.data)
        target_model = self._target_model(context)
        target = None if target_model is None else self._target(target_model, data.images, context)
        classes = 1 if target_model is None else target_model.classes
        runtime = {"channels": data.images.shape[1], "image_size": data.images.shape[2], "classes": classes}
        prior = PRIORS.build(self.config.prior, **runtime).to(context.device)
        prior.fit(data.images, target=target, context=context)
        prior.eval().requires_grad_(False)
        save_network(context.output, "prior", prior, config=self.config.prior, runtime=runtime)
        context.write_history()
        queries = {"queries": target.queries if target else 0}
        context.write_json("protocol.json", queries | (images_sent(target_model) if target_model else {}))
        samples = _samples(prior, min(QUALITY_SAMPLES if self.config.prior.fitted else SHOWN, len(data)), context)
        context.write_json("quality.json", sample_quality(samples, data.images, device=context.device))
        save_grid(context.output / "samples.png", samples[:SHOWN], columns=8, scale=2)
        shown = torch.randint(len(data), (SHOWN,), generator=context.generator("shown"))
        save_grid(context.output / "public.png", data.images[shown].float() / 255, columns=8, scale=2)

    def _target_model(self, context: JobContext) -> TargetModel | None:
        """The target model; None if the prior asks it nothing."""
        if "target" not in context.inputs:
            return None
        return load_target(context.inputs["target"], context, limits=self.config.limits)

    def _target(self, model: TargetModel, public: Tensor, context: JobContext) -> LabelOracle:
        """The target model as the prior may ask it."""
        access = PRIORS.class_of(self.config.prior).target_access
        assert access is not None
        return teacher(access, model, erasing=self.config.erasing, public=public, context=context)


def load_prior(folder: Path, *, device: torch.device) -> tuple[Prior, int]:
    """A fitted prior, and how often its target model was asked."""
    queries = json.loads((folder / "protocol.json").read_text(encoding="utf-8"))["queries"]
    return load_network(folder, "prior", PRIORS, device=device), int(queries)


def _samples(prior: Prior, count: int, context: JobContext) -> Tensor:
    """Images of random latents; a conditional prior takes the classes in turn. Shape: (count, C, H, W)."""
    latents = torch.randn(count, prior.latent_size, generator=context.generator("samples")).to(context.device)
    identities = torch.arange(count, device=context.device).remainder(prior.classes)

    def images_of(batch: slice) -> Tensor:
        return prior.synthesize(prior.map(latents[batch]), identities[batch])

    batches = MemoryBatches(SAMPLE_BATCH, memory_gb=math.inf if context.device.type == "cuda" else context.memory_gb)
    if not batches.measured:
        few = latents[:1].requires_grad_(True)
        batches.measure(lambda: prior.synthesize(prior.map(few), identities[:1]), 1)
    with torch.no_grad():
        return torch.cat(batches.run(lambda batch: images_of(batch).cpu(), count)).clamp(0, 1)
