"""KED-MI: fit a Gaussian of latents to each identity, and draw reconstructions from it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from workloads.core.checkpoints import State
from workloads.inversion.attack import ATTACKS, Access, check_judges
from workloads.inversion.gradient_search import GradientAttackConfig, WhiteBoxAttack
from workloads.inversion.optimizers import Adam, Variables
from workloads.inversion.rows import Rows
from workloads.observation.objectives import cross_entropy
from workloads.observation.oracles import WhiteBoxOracle
from workloads.priors.base import PRIORS, Prior, PriorConfig
from workloads.priors.ked_gan import KedGanConfig


class KedmiConfig(GradientAttackConfig):
    """Defaults are those of the authors' code."""

    version: ClassVar[int] = 2
    kind: Literal["kedmi"] = "kedmi"
    restarts: PositiveInt = 1
    """Gaussians fitted to each identity."""
    draws: PositiveInt = 5
    """Reconstructions drawn from each Gaussian."""
    keep: PositiveInt = 5
    steps: PositiveInt = 2400
    prior: Annotated[PriorConfig, PRIORS] | None = KedGanConfig()
    identity_weight: NonNegativeFloat = 100.0
    lr: PositiveFloat = 0.02
    clip: PositiveFloat | None = None
    """Bound of every number of a draw, which stops the gradient of those beyond it; the authors' acts on a copy that
    nothing reads, so there is none."""
    batch_reference: PositiveInt = 60
    """The batch size the authors divide by; Adam all but cancels it."""

    @property
    def made(self) -> int:
        return self.restarts * self.draws


@ATTACKS.register(KedmiConfig)
class Kedmi(WhiteBoxAttack):
    """Distributional recovery: the mean and variance of latents whose images the target takes for the identity.

    Every step draws one latent from the Gaussian of a row and descends on 100 x cross-entropy minus the discriminator's
    realism. What remains of an identity is a handful of draws, all of them kept, since the authors choose none.

    Source: Chen et al., "Knowledge-Enriched Distributional Model Inversion Attacks", ICCV 2021.
    """

    stages = ("fit gaussians", "draw", "select")
    config: KedmiConfig

    @classmethod
    def check(cls, config: Any, *, prior: Prior | None, classes: int) -> None:
        super().check(config, prior=prior, classes=classes)
        check_judges(config, prior, usual="ked_gan")

    @property
    def rule(self) -> Adam:
        return Adam(self.config.lr)

    def start(self, access: Access[WhiteBoxOracle], rows: Rows) -> Variables:
        mean = torch.zeros(len(rows), access.generator.latent_size, device=access.device)
        return {"mean": mean, "log_variance": torch.ones_like(mean)}

    def latents_of(self, variables: Variables, rows: Rows, step: int) -> Tensor:
        return self._drawn(variables, rows, "noise", step)

    def identity_losses(self, access: Access[WhiteBoxOracle], images: Tensor, identities: Tensor) -> Tensor:
        return cross_entropy(access.target.logits(images), identities)

    def prior_losses(self, access: Access[WhiteBoxOracle], images: Tensor) -> Tensor:
        return -access.generator.realism(images)

    def latents(self, access: Access[WhiteBoxOracle], state: State, rows: Rows) -> tuple[Rows, Tensor]:
        """The draws of a row stand together."""
        drawn = [self._drawn(state["variables"], rows, "draw", number) for number in range(self.config.draws)]
        return rows[torch.arange(len(rows)).repeat_interleave(self.config.draws)], torch.stack(drawn, 1).flatten(0, 1)

    def _drawn(self, variables: Variables, rows: Rows, *purpose: str | int) -> Tensor:
        """A latent of each row's Gaussian. Shape: (B, Z)."""
        mean, deviation = variables["mean"], (variables["log_variance"] / 2).exp()
        latents = mean + deviation * rows.normal(mean.shape[1], *purpose).to(mean)
        return latents if self.config.clip is None else latents.clamp(-self.config.clip, self.config.clip)

    @property
    def identity_weight(self) -> float:
        return self.config.identity_weight

    @property
    def batch_reference(self) -> int:
        return self.config.batch_reference

    def protocol(self) -> dict[str, object]:
        settings = {name: getattr(self.config, name) for name in ("draws", "clip", "batch_reference")}
        return super().protocol() | settings
