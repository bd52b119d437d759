"""What a generative prior is: latents to images, a score of realism, and how it is fitted on public data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field, NonNegativeInt, field_validator, model_validator
from torch import Tensor, nn

from workloads.context import JobContext
from workloads.core.config import Addition, ComponentConfig
from workloads.core.registry import Registry
from workloads.models.base import initialize
from workloads.observation.oracles import LabelOracle


class PriorConfig(ComponentConfig):
    """Architecture and fitting of a prior."""

    seeds: Annotated[tuple[NonNegativeInt, ...] | None, Field(min_length=1), Addition()] = None
    """Seeds to fit it with, once each, with the surrogates that learn from it; the attack is run from each, and numbers
    are means over them. For an attack's own prior that sets none, those of the spec's prior; else 0 alone."""

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if seeds is not None and len(set(seeds)) < len(seeds):
            raise ValueError(f"{list(seeds)} repeats one: each is fitted once")
        return seeds

    @model_validator(mode="after")
    def _fitted_with_each_seed(self) -> Self:
        if self.seeds is not None and len(self.seeds) > 1 and not self.fitted:
            raise ValueError("seeds: a prior whose weights are read from a file is the same with each: give one")
        return self

    @property
    def fitted(self) -> bool:
        """Whether the weights are fitted here on public images, rather than read from a file."""
        return True


class Prior(nn.Module, ABC):
    """Knowledge of what images of the domain look like, from public data only.

    Some priors also learn from the target model's answers (`target_access`): they are fitted anew for each target.
    """

    target_access: ClassVar[type[LabelOracle] | None] = None
    """The access to the target model that fitting needs; None for a prior that can be shared by all targets."""
    conditional: ClassVar[bool] = False
    """Whether images depend on an identity as well as on a latent."""
    latent_size: int
    """Numbers in one latent."""
    channels: int
    """Colour channels of the images."""
    image_size: int
    """Height and width of the images, in pixels."""
    classes: int
    """Classes of the target model; 1 for a prior that is fitted without one."""
    config: PriorConfig

    def __init__(self, config: PriorConfig, *, channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        self.config = config
        self.channels = channels
        self.image_size = image_size
        self.classes = classes

    def draw_weights(self, draws: torch.Generator) -> None:
        """Draw every weight anew."""
        initialize(self, draws)

    def map(self, latents: Tensor) -> Tensor:
        """Map latents as drawn to those that attacks optimise and `synthesize` takes; most priors change nothing."""
        return latents

    @abstractmethod
    def synthesize(self, latents: Tensor, identities: Tensor | None = None) -> Tensor:
        """Make images from latents, roughly in [0, 1]; callers clip. Conditional priors also take identities.

        Shape: (B, latent_size), (B,) int64 to (B, C, H, W).
        """

    def realism(self, images: Tensor) -> Tensor:
        """Score how real each image looks; larger is more real. Shape: (B, C, H, W) in [0, 1] to (B,).

        Raises:
            NotImplementedError: for a prior without such a score; `scores_realism` is then False.
        """
        raise NotImplementedError(f"{self.config.kind} does not judge images")

    @property
    def scores_realism(self) -> bool:
        """Whether `realism` can be called."""
        return type(self).realism is not Prior.realism

    def planned_queries(self, images: int) -> int:
        """Images of which fitting on so many public ones asks the target model."""
        return 0

    @abstractmethod
    def fit(self, images: Tensor, *, target: LabelOracle | None = None, context: JobContext) -> None:
        """Fit on public images, in place, continuing from the job's checkpoint. Shape: (N, C, H, W) uint8.

        `target` gives access to the target model, of the type that `target_access` names.
        """


PRIORS: Registry[PriorConfig, Prior] = Registry("workloads.priors")
