"""What a generative prior is: latents to images, a judgement of realism, and how it is fitted on public data."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from workloads.config import ComponentConfig
from workloads.context import JobContext
from workloads.registry import Registry


class PriorConfig(ComponentConfig):
    """Architecture and fitting of a prior."""


class Prior(nn.Module, ABC):
    """Knowledge of what images of the domain look like, from public data only."""

    latent_size: int

    def __init__(self, config: PriorConfig, *, channels: int, image_size: int) -> None:
        super().__init__()
        self.config = config
        self.channels = channels
        self.image_size = image_size

    @abstractmethod
    def synthesize(self, latents: Tensor) -> Tensor:
        """Shape: (B, latent_size) to (B, C, H, W) in [0, 1]."""

    @abstractmethod
    def realism(self, images: Tensor) -> Tensor:
        """How real each image looks; larger is more real. Shape: (B, C, H, W) in [0, 1] to (B,)."""

    @abstractmethod
    def fit(self, images: Tensor, *, context: JobContext) -> None:
        """Fit on public images, in place, continuing from the job's checkpoint. Shape: (N, C, H, W) uint8."""


PRIORS: Registry[Prior] = Registry("workloads.priors")
