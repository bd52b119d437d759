"""The held-out private images of those attacked, in the form of an attack's reconstructions: what none can exceed."""

from __future__ import annotations

from typing import Literal

import torch
from safetensors.torch import save_file

from workloads.context import DataInput, JobContext
from workloads.datasets.base import SplitConfig
from workloads.inversion.identity_choice import IdentityChoice, chosen, in_words
from workloads.jobs.base import JOBS, Job, JobConfig


class RealImagesConfig(JobConfig):
    """Whose images to take."""

    kind: Literal["real_images"] = "real_images"
    data: DataInput
    """Private images."""
    split: SplitConfig
    """How images were held out of the training of target and judge."""
    identities: IdentityChoice = None
    """Whose: those that the attack attacks."""


@JOBS.register(RealImagesConfig)
class RealImages(Job):
    """Take real images of each person for reconstructions, so that every judge and metric gives its ceiling.

    Source: this project.
    """

    uses_gpu = False
    config: RealImagesConfig

    def run(self, context: JobContext) -> None:
        """Write the held-out images as reconstructions, and a protocol."""
        data = context.load_images(self.config.data)
        _, held_out = data.split(self.config.split)
        attacked = torch.isin(held_out.identities, torch.tensor(chosen(self.config.identities, data.names)))
        identities, images = held_out.identities[attacked], held_out.images[attacked].float().contiguous() / 255
        rows = {
            "images": images,
            "latents": torch.zeros(len(images), 0),
            "identities": identities,
            "restarts": torch.zeros(len(images), dtype=torch.int64),
            "scores": torch.zeros(len(images)),
            "kept": torch.ones(len(images), dtype=torch.bool),
        }
        save_file(rows, context.output / "reconstructions.safetensors")
        people = in_words(self.config.identities, len(data.names))
        context.write_json("protocol.json", {"attack": "real images", "people": people, "queries": 0})
        context.write_history()
