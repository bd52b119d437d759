"""What PPA and IF-GMI share: descent on the Poincare distance, from the best styles of a pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.errors import ConfigError
from workloads.inversion.attack import Access
from workloads.inversion.gradient_search import WhiteBoxAttack
from workloads.inversion.latent_pool import PooledConfig, best_starts, check_pooled, draw_pool, explore, start_of
from workloads.inversion.optimizers import Adam, Rule, Variables
from workloads.inversion.rows import Rows
from workloads.inversion.selection import robust_confidence
from workloads.observation.objectives import poincare
from workloads.observation.oracles import WhiteBoxOracle
from workloads.observation.views import RandomView, View, ViewConfig
from workloads.priors.base import Prior
from workloads.priors.staged import StagedPrior

Beta = Annotated[float, Field(ge=0, lt=1)]


class StyleSearchConfig(PooledConfig):
    """The search both papers begin with.

    `fidelity: official` scores pool images whose later styles are not truncated, but starts from the first style, which
    is, for all layers: another image. `fixed` scores the image that the search starts from.
    """

    lr: PositiveFloat = 0.005
    betas: tuple[Beta, Beta] = (0.1, 0.1)
    view: ViewConfig = ViewConfig(scale=(0.9, 1.0))
    """Of the images that the target model is shown at each step."""
    selection_view: ViewConfig = ViewConfig(scale=(0.5, 0.9), ratio=(0.8, 1.2), flip=0.5)
    """Of the images among which the target model's mean confidence chooses."""
    selection_views: PositiveInt = 100
    centre_crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of the side of a prior's images that is kept, as 800 / 1024 where they show more than the private ones."""
    clip_images: bool = False
    """Clip images to [0, 1] while searching; those that are kept are clipped in any case."""
    batch_reference: PositiveInt = 25
    """The batch size the authors divide by; Adam makes little of it."""


class StyleSearch(WhiteBoxAttack):
    """The target scores a pool; its best styles descend; random views decide what is kept."""

    config: StyleSearchConfig
    selection = "mean confidence over random views"

    @classmethod
    def check(cls, config: Any, *, prior: Prior | None, classes: int) -> None:
        super().check(config, prior=prior, classes=classes)
        assert prior is not None
        check_pooled(config, prior)
        if config.fidelity == "official" and not isinstance(prior, StagedPrior):
            raise ConfigError(
                f"fidelity: {config.label} as its authors run it truncates some layers of an image, which "
                f"{prior.config.kind} does not have: leave fidelity at fixed, or take a staged prior."
            )

    @property
    def rule(self) -> Rule:
        return Adam(self.config.lr, self.config.betas)

    @property
    def batch_reference(self) -> int:
        return self.config.batch_reference

    def prepare(self, access: Access[WhiteBoxOracle], identities: Tensor, *, context: JobContext) -> State:
        def look(latents: Tensor) -> tuple[Tensor, Tensor]:
            starts, images = self._first_look(access.generator, latents)
            seen = self.framed(images).clamp(0, 1)
            return starts, (access.target.probabilities(seen) + access.target.probabilities(seen.flip(3))) / 2

        latents = draw_pool(self.config, access.generator, context=context)
        starts, probabilities = explore(access, latents, look)
        return best_starts(starts, probabilities, identities, count=self.config.starts)

    def start(self, access: Access[WhiteBoxOracle], rows: Rows) -> Variables:
        return {"latents": start_of(access.findings, rows)}

    def render(self, access: Access[WhiteBoxOracle], latents: Tensor, rows: Rows) -> Tensor:
        return self.framed(access.generator.synthesize(latents))

    def views(self, access: Access[WhiteBoxOracle]) -> Sequence[View]:
        return (RandomView(self.config.view),)

    def identity_losses(self, access: Access[WhiteBoxOracle], images: Tensor, identities: Tensor) -> Tensor:
        return poincare(access.target.logits(images), identities)

    def framed(self, images: Tensor) -> Tensor:
        """The images as the target model is shown them, at their size. Shape: (B, C, S, S), kept."""
        images = images.clamp(0, 1) if self.config.clip_images else images
        side = images.shape[-1]
        kept = max(round(self.config.centre_crop * side), 1)
        if kept == side:
            return images
        edge = (side - kept) // 2
        inner = images[..., edge : edge + kept, edge : edge + kept]
        return F.interpolate(inner, size=(side, side), mode="bilinear")

    def scores(self, access: Access[WhiteBoxOracle], images: Tensor, rows: Rows) -> Tensor:
        view = RandomView(self.config.selection_view)
        return robust_confidence(access.target, images, rows, views=self.config.selection_views, view=view)

    def protocol(self) -> dict[str, Any]:
        return super().protocol() | self.config.pool_protocol() | {"selection_views": self.config.selection_views}

    def _first_look(self, prior: Prior, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The style that a search from each latent begins with, and the image that is scored for it."""
        if not isinstance(prior, StagedPrior):
            starts = prior.map(latents)
            return starts, prior.synthesize(starts)
        styles = prior.styles(latents, truncation=self.config.truncation, cutoff=self.config.cutoff)
        starts = styles[:, 0]
        official = self.config.fidelity == "official"
        return starts, prior.to_data_image(prior.run_blocks(styles)[1]) if official else prior.synthesize(starts)
