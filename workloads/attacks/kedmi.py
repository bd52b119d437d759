"""KED-MI: fit a Gaussian over latents to each identity, and draw reconstructions from it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from workloads.core.checkpoints import State
from workloads.core.config import Steps
from workloads.inversion.attack import ATTACKS, Access, check_realism
from workloads.inversion.gradient_search import GradientAttack, GradientAttackConfig
from workloads.inversion.objective import TargetObjective
from workloads.inversion.optimizers import Adam, Descent, Variables
from workloads.inversion.rows import Rows
from workloads.inversion.step import Step
from workloads.observation.losses import cross_entropy
from workloads.observation.oracles import LabelOracle, WhiteBoxOracle
from workloads.priors.base import PRIORS, Prior, PriorConfig
from workloads.priors.ked_gan import KedGanConfig


class KedmiConfig(GradientAttackConfig):
    """Settings of KED-MI; the defaults are those of the authors' code."""

    version: ClassVar[int] = 4
    kind: Literal["kedmi"] = "kedmi"
    restarts: PositiveInt = 1
    """Gaussians fitted to each identity."""
    draws: PositiveInt = 5
    """Reconstructions drawn from each Gaussian."""
    keep: PositiveInt = 5
    """Reconstructions kept per identity, of restarts x draws; the authors keep all."""
    steps: Steps = 2400
    """Steps that each Gaussian is fitted for."""
    prior: Annotated[PriorConfig, PRIORS] | None = KedGanConfig()
    """The prior that images come from; it must judge how real an image looks."""
    identity_weight: NonNegativeFloat = 100.0
    """Weight of the cross-entropy relative to the discriminator's realism."""
    lr: PositiveFloat = 0.02
    """Learning rate of mean and log-variance."""
    clip: PositiveFloat | None = None
    """Bound on every number of a drawn latent, beyond which its gradient is 0. None by default: the authors clip a copy
    that nothing reads."""
    batch_reference: PositiveInt = 60
    """Batch size that the authors divide losses by; Adam all but cancels it."""

    @property
    def candidates_per_identity(self) -> int:
        """Restarts x draws."""
        return self.restarts * self.draws


@ATTACKS.register(KedmiConfig)
class Kedmi(GradientAttack[WhiteBoxOracle]):
    """Distributional recovery: the mean and variance of latents whose images the target takes for the identity.

    Every step draws one latent from the Gaussian of a row and descends on 100 x cross-entropy minus the discriminator's
    realism. The reconstructions of an identity are a few draws from its Gaussian, all of them kept, as the authors do.

    Source: Chen et al., "Knowledge-Enriched Distributional Model Inversion Attacks", ICCV 2021.
    """

    oracle: ClassVar[type[LabelOracle]] = WhiteBoxOracle
    stages = ("fit gaussians", "draw", "select")
    config: KedmiConfig

    def check(self, *, prior: Prior | None, classes: int) -> None:
        """Refuse a prior that does not judge how real images look."""
        super().check(prior=prior, classes=classes)
        check_realism(self.config, prior, usual="ked_gan")

    def default_objective(self) -> TargetObjective:
        """Cross-entropy of the target's logits."""
        return TargetObjective(cross_entropy)

    @property
    def descent(self) -> Descent:
        """Adam, with losses weighted and divided as in the authors' code."""
        return Descent(Adam(self.config.lr), self.config.identity_weight, self.config.batch_reference)

    def start(self, access: Access[WhiteBoxOracle], rows: Rows) -> Variables:
        """Mean 0 and log-variance 1 for every Gaussian."""
        mean = torch.zeros(len(rows), access.required_prior.latent_size, device=access.device)
        return {"mean": mean, "log_variance": torch.ones_like(mean)}

    def images_of(self, access: Access[WhiteBoxOracle], variables: Variables, rows: Rows, step: Step) -> Tensor:
        """The image of one latent drawn from each Gaussian."""
        return self.render(access, self.draw(variables, rows, "noise", step=step.counter), rows)

    def prior_losses(self, access: Access[WhiteBoxOracle], images: Tensor) -> Tensor:
        """Minus the discriminator's realism."""
        return -access.required_prior.realism(images)

    def latents(self, access: Access[WhiteBoxOracle], state: State, rows: Rows) -> tuple[Rows, Tensor]:
        """The draws of a row, side by side."""
        draws = [self.draw(state["variables"], rows, "draw", number) for number in range(self.config.draws)]
        return rows.repeated(self.config.draws), torch.stack(draws, 1).flatten(0, 1)

    def draw(self, variables: Variables, rows: Rows, *purpose: str | int, step: Tensor | None = None) -> Tensor:
        """A latent from each row's Gaussian. Shape: (B, Z)."""
        mean, deviation = variables["mean"], (variables["log_variance"] / 2).exp()
        latents = mean + deviation * rows.normal(mean.shape[1], *purpose, step=step).to(mean)
        return latents if self.config.clip is None else latents.clamp(-self.config.clip, self.config.clip)

    def protocol(self) -> dict[str, Any]:
        """Adds draws, clipping and the batch size that losses are divided by."""
        config = self.config
        return super().protocol() | {
            "draws": config.draws,
            "clip": config.clip,
            "batch_reference": config.batch_reference,
        }
