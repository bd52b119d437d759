"""Fit a generative prior on public data."""

from __future__ import annotations

from typing import Annotated, Literal

import torch

from workloads.config import ComponentConfig
from workloads.context import DataInput, JobContext
from workloads.jobs.base import JOBS, Job, JobConfig
from workloads.pictures import save_grid
from workloads.priors.base import PRIORS
from workloads.storage import save_network

SAMPLES = 64


class FitPriorConfig(JobConfig):
    kind: Literal["fit_prior"] = "fit_prior"
    data: DataInput
    prior: Annotated[ComponentConfig, PRIORS]


@JOBS.register(FitPriorConfig)
class FitPrior(Job):
    """Fit a prior on public images and show samples of it beside real ones.

    Source: the public-knowledge distillation of Zhang et al., CVPR 2020, section 3.2.
    """

    config: FitPriorConfig

    def run(self, context: JobContext) -> None:
        data = context.load_images(self.config.data)
        runtime = {"channels": data.images.shape[1], "image_size": data.images.shape[2]}
        prior = PRIORS.build(self.config.prior, **runtime).to(context.device)
        prior.fit(data.images, context=context)
        save_network(context.output, "prior", prior, config=self.config.prior, runtime=runtime)
        context.write_history()
        draws = context.generator("samples")
        latents = torch.randn(SAMPLES, prior.latent_size, generator=draws).to(context.device)
        with torch.no_grad():
            save_grid(context.output / "samples.png", prior.synthesize(latents).cpu(), columns=8, scale=2)
        shown = torch.randint(len(data), (SAMPLES,), generator=draws)
        save_grid(context.output / "public.png", data.images[shown].float() / 255, columns=8, scale=2)
