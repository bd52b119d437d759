"""The search that PPA and IF-GMI share: descend from the best styles of a pool, and rank by many random views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.config import Beta
from workloads.core.errors import ConfigError
from workloads.core.resampling import resize
from workloads.inversion.attack import Access
from workloads.inversion.gradient_search import GradientAttack
from workloads.inversion.latent_pool import PooledConfig, best_starts, check_pooled, draw_pool, score_pool, start_of
from workloads.inversion.objective import TargetObjective
from workloads.inversion.optimizers import Adam, Descent, Variables
from workloads.inversion.rows import Rows
from workloads.inversion.selection import MeanConfidence
from workloads.observation.losses import poincare
from workloads.observation.oracles import LabelOracle, WhiteBoxOracle
from workloads.observation.views import RandomView, View, ViewConfig
from workloads.priors.base import Prior
from workloads.priors.staged import StagedPrior


class StyleSearchConfig(PooledConfig):
    """Settings of a search that begins with a pool of styles.

    `fidelity: official` scores pool images whose later styles are not truncated, but starts from the first style, which
    is truncated, for all layers: another image. `fixed` scores the image that the search starts from.
    """

    lr: PositiveFloat = 0.005
    """Learning rate of the styles."""
    betas: tuple[Beta, Beta] = (0.1, 0.1)
    """Decay rates of Adam's moments."""
    view: ViewConfig = ViewConfig(scale=(0.9, 1.0))
    """The random view that the target model is shown at each step."""
    selection_view: ViewConfig = ViewConfig(scale=(0.5, 0.9), ratio=(0.8, 1.2), flip=0.5)
    """The random views by which reconstructions are ranked."""
    selection_views: PositiveInt = 100
    """Random views per reconstruction; the target model's mean confidence over them ranks it."""
    centre_crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Fraction of the side of a prior's images that is kept, for example 800 / 1024 if they show more around a face
    than the private images do."""
    clip_images: bool = False
    """Clip images to [0, 1] while searching; reconstructions are clipped in any case."""
    batch_reference: PositiveInt = 25
    """Batch size that the authors divide losses by; Adam all but cancels it."""


class StyleSearch(GradientAttack[WhiteBoxOracle]):
    """Scores a pool by the target model, descends from its best styles, and ranks by confidence over random views."""

    oracle: ClassVar[type[LabelOracle]] = WhiteBoxOracle
    config: StyleSearchConfig

    def check(self, *, prior: Prior | None, classes: int) -> None:
        """Refuse a prior whose images depend on the identity, and official fidelity without a staged prior."""
        super().check(prior=prior, classes=classes)
        assert prior is not None
        check_pooled(self.config, prior)
        if self.config.fidelity == "official" and not isinstance(prior, StagedPrior):
            raise ConfigError(
                f"fidelity: {self.config.label} as its authors run it truncates some layers of an image, which "
                f"{prior.config.kind} does not have: leave fidelity at fixed, or take a staged prior."
            )

    def default_objective(self) -> TargetObjective:
        """The Poincare distance of the target's logits."""
        return TargetObjective(poincare)

    @property
    def descent(self) -> Descent:
        """Adam, with losses divided as in the authors' code."""
        return Descent(Adam(self.config.lr, self.config.betas), batch_reference=self.config.batch_reference)

    @property
    def ranking(self) -> MeanConfidence:
        """By mean confidence over random views."""
        return MeanConfidence(self.config.selection_views, RandomView(self.config.selection_view))

    def prepare(self, access: Access[WhiteBoxOracle], identities: Tensor, *, context: JobContext) -> State:
        """The best styles of the pool for each identity."""

        def score(latents: Tensor) -> tuple[Tensor, Tensor]:
            starts, images = self._first_images(access.required_prior, latents)
            shown = self.framed(images).clamp(0, 1)
            return starts, (access.target.probabilities(shown) + access.target.probabilities(shown.flip(3))) / 2

        latents = draw_pool(self.config, access.required_prior, context=context)
        starts, probabilities = score_pool(access, latents, score)
        pool = best_starts(starts, probabilities, identities, count=self.config.starts)
        return super().prepare(access, identities, context=context) | pool

    def start(self, access: Access[WhiteBoxOracle], rows: Rows) -> Variables:
        """The best styles of the pool for each identity."""
        return {"latents": start_of(access.findings, rows)}

    def render(self, access: Access[WhiteBoxOracle], latents: Tensor, rows: Rows) -> Tensor:
        """Images of styles, cropped as the target model is shown them."""
        return self.framed(access.required_prior.synthesize(latents))

    def views(self, access: Access[WhiteBoxOracle]) -> Sequence[View]:
        """One random view per step."""
        return (RandomView(self.config.view),)

    def framed(self, images: Tensor) -> Tensor:
        """The images as the target model is shown them, cropped and resized back. Shape: (B, C, S, S), kept."""
        images = images.clamp(0, 1) if self.config.clip_images else images
        side = images.shape[-1]
        kept = max(round(self.config.centre_crop * side), 1)
        if kept == side:
            return images
        edge = (side - kept) // 2
        inner = images[..., edge : edge + kept, edge : edge + kept]
        return resize(inner, (side, side))

    def protocol(self) -> dict[str, Any]:
        """Adds the pool and the number of views that rank."""
        return super().protocol() | self.config.pool_protocol() | {"selection_views": self.config.selection_views}

    def _first_images(self, prior: Prior, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The style that a search from each latent begins with, and the image that is scored for it."""
        if not isinstance(prior, StagedPrior):
            starts = prior.map(latents)
            return starts, prior.synthesize(starts)
        styles = prior.styles(latents, truncation=self.config.truncation, cutoff=self.config.cutoff)
        starts = styles[:, 0]
        official = self.config.fidelity == "official"
        return starts, prior.to_data_image(prior.run_blocks(styles)[1]) if official else prior.synthesize(starts)
