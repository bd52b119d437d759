"""What a generative prior is: latents to images, a judgement of realism, and how it is fitted on public data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from workloads.context import JobContext
from workloads.core.config import ComponentConfig
from workloads.core.registry import Registry
from workloads.models.base import initialize
from workloads.observation.oracles import LabelOracle


class PriorConfig(ComponentConfig):
    """Architecture and fitting of a prior."""

    @property
    def fitted(self) -> bool:
        """Whether its weights come from public images, and not from a file."""
        return True


class Prior(nn.Module, ABC):
    """Knowledge of what images of the domain look like, from public data only.

    Some priors are taught by the target model as well: they are fitted anew for each, and ask it what `teacher` says.
    """

    target_access: ClassVar[type[LabelOracle] | None] = None
    """What fitting asks of the target model; None for a prior that fits any target."""
    conditional: ClassVar[bool] = False
    """Whether images depend on the identity beside the latent."""
    latent_size: int
    classes: int
    """Of the target model."""

    def __init__(self, config: PriorConfig, *, channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        self.config: Any = config
        self.channels = channels
        self.image_size = image_size
        self.classes = classes

    def draw_weights(self, draws: torch.Generator) -> None:
        """Draw every weight anew."""
        initialize(self, draws)

    def map(self, latents: Tensor) -> Tensor:
        """From drawn latents to those that `synthesize` takes and attacks move; the same for most priors."""
        return latents

    @abstractmethod
    def synthesize(self, latents: Tensor, identities: Tensor | None = None) -> Tensor:
        """Images of latents, for conditional priors of the identities wanted, about [0, 1]: who shows them clips them.

        Shape: (B, latent_size), (B,) int64 to (B, C, H, W).
        """

    def realism(self, images: Tensor) -> Tensor:
        """How real each image looks; larger is more real. Shape: (B, C, H, W) in [0, 1] to (B,).

        Raises:
            NotImplementedError: for a prior without such a judgement, which `scores_realism` says.
        """
        raise NotImplementedError(f"{self.config.kind} does not judge images")

    @property
    def scores_realism(self) -> bool:
        """Whether it has `realism`."""
        return type(self).realism is not Prior.realism

    @abstractmethod
    def fit(self, images: Tensor, *, target: LabelOracle | None = None, context: JobContext) -> None:
        """Fit on public images, in place, continuing from the job's checkpoint. Shape: (N, C, H, W) uint8.

        `teacher` is the target model as `Prior.target_access` asks for it.
        """


PRIORS: Registry[PriorConfig, Prior] = Registry("workloads.priors")
