"""Fit a generative prior on public data, and on a target model's answers where the prior asks for them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import Tensor

from workloads.context import DataInput, JobContext
from workloads.core.networks import load_network, save_network
from workloads.core.pictures import save_grid
from workloads.defenses.random_erasing import RandomErasingConfig
from workloads.inversion.memory_batches import MemoryBatches
from workloads.jobs.base import JOBS, Job, JobConfig
from workloads.jobs.teacher import teacher
from workloads.metrics.random_features import sample_quality
from workloads.observation.oracles import LabelOracle
from workloads.priors.base import PRIORS, Prior, PriorConfig
from workloads.training.classifiers import load_classifier

SHOWN = 64
JUDGED = 2000
AT_ONCE = 100


class FitPriorConfig(JobConfig):
    kind: Literal["fit_prior"] = "fit_prior"
    data: DataInput
    prior: Annotated[PriorConfig, PRIORS]
    erasing: RandomErasingConfig | None = None
    """Show the teacher images erased by this law, as an attacker does who knows how it was trained."""


@JOBS.register(FitPriorConfig)
class FitPrior(Job):
    """Fit a prior on public images and show samples of it beside real ones.

    Source: the public-knowledge distillation of Zhang et al., CVPR 2020, section 3.2.
    """

    inputs = ("target",)
    config: FitPriorConfig

    def run(self, context: JobContext) -> None:
        data = context.load_images(self.config.data)
        taught_by, classes = self._teacher(data.images, context)
        runtime = {"channels": data.images.shape[1], "image_size": data.images.shape[2], "classes": classes}
        prior = PRIORS.build(self.config.prior, **runtime).to(context.device)
        prior.fit(data.images, target=taught_by, context=context)
        prior.eval().requires_grad_(False)
        save_network(context.output, "prior", prior, config=self.config.prior, runtime=runtime)
        context.write_history()
        context.write_json("protocol.json", {"queries": taught_by.queries if taught_by else 0})
        made = _samples(prior, min(JUDGED if self.config.prior.fitted else SHOWN, len(data)), context)
        context.write_json("quality.json", sample_quality(made, data.images))
        save_grid(context.output / "samples.png", made[:SHOWN], columns=8, scale=2)
        save_grid(
            context.output / "public.png", data.images[_some(len(data), context)].float() / 255, columns=8, scale=2
        )

    def _teacher(self, public: Tensor, context: JobContext) -> tuple[LabelOracle | None, int]:
        """The target model as the prior may ask it, and how many classes it has."""
        if "target" not in context.inputs:
            return None, 1
        model = load_classifier(context.inputs["target"], device=context.device)
        asks = PRIORS.class_of(self.config.prior).target_access
        assert asks is not None
        return teacher(asks, model, erasing=self.config.erasing, public=public, context=context), model.classes


def load_prior(folder: Path, *, device: torch.device) -> tuple[Prior, int]:
    """A fitted prior, and how often its target model was asked."""
    asked = json.loads((folder / "protocol.json").read_text(encoding="utf-8"))["queries"]
    return load_network(folder, "prior", PRIORS, device=device), int(asked)


def _samples(prior: Prior, count: int, context: JobContext) -> Tensor:
    """Images of fresh latents, of conditional priors one class after the other. Shape: (count, C, H, W)."""
    latents = torch.randn(count, prior.latent_size, generator=context.generator("samples")).to(context.device)
    identities = torch.arange(count, device=context.device).remainder(prior.classes)

    def made(part: slice) -> Tensor:
        return prior.synthesize(prior.map(latents[part]), identities[part])

    batches = MemoryBatches(AT_ONCE, memory_gb=math.inf if context.device.type == "cuda" else context.memory_gb)
    if not batches.measured:
        few = latents[:1].requires_grad_(True)
        batches.measure(lambda: prior.synthesize(prior.map(few), identities[:1]), 1)
    with torch.no_grad():
        return torch.cat(batches.run(lambda part: made(part).cpu(), count)).clamp(0, 1)


def _some(count: int, context: JobContext) -> Tensor:
    return torch.randint(count, (SHOWN,), generator=context.generator("shown"))
