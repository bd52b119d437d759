"""GMI: descend on the target's cross-entropy and the critic's realism, from several starts per identity."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from workloads.core.checkpoints import State
from workloads.inversion.attack import ATTACKS, Access, check_realism
from workloads.inversion.gradient_search import GradientAttack, GradientAttackConfig
from workloads.inversion.objective import TargetObjective
from workloads.inversion.optimizers import Descent, Nesterov, Variables
from workloads.observation.losses import cross_entropy
from workloads.observation.oracles import LabelOracle, WhiteBoxOracle
from workloads.priors.base import Prior


class GmiConfig(GradientAttackConfig):
    """Settings of GMI; the defaults are those of the authors' code."""

    version: ClassVar[int] = 3
    kind: Literal["gmi"] = "gmi"
    identity_weight: NonNegativeFloat = 100.0
    """Weight of the cross-entropy relative to the critic's realism."""
    lr: PositiveFloat = 0.02
    """Learning rate of the latents."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of the Nesterov steps."""
    bound: PositiveFloat = 1.0
    """Largest absolute value of a latent number after each step; the start may lie outside."""
    batch_reference: PositiveInt = 100
    """Batch size that the authors divide losses by: a latent moves by lr / batch_reference times its gradient."""


@ATTACKS.register(GmiConfig)
class Gmi(GradientAttack[WhiteBoxOracle]):
    """Generative model inversion: 100 x cross-entropy minus the critic's value, by Nesterov steps in a box.

    The best start of an identity is the one with the largest target logit. The authors begin their search for the
    maximum at 0 and so never take a negative logit, which is corrected here.

    Source: Zhang et al., "The Secret Revealer: Generative Model-Inversion Attacks", CVPR 2020.
    """

    oracle: ClassVar[type[LabelOracle]] = WhiteBoxOracle
    config: GmiConfig

    def check(self, *, prior: Prior | None, classes: int) -> None:
        """Refuse a prior that does not judge how real images look."""
        super().check(prior=prior, classes=classes)
        check_realism(self.config, prior, usual="wgan_gp")

    def default_objective(self) -> TargetObjective:
        """Cross-entropy of the target's logits."""
        return TargetObjective(cross_entropy)

    @property
    def descent(self) -> Descent:
        """Nesterov steps, with losses weighted and divided as in the authors' code."""
        rule = Nesterov(self.config.lr, self.config.momentum)
        return Descent(rule, self.config.identity_weight, self.config.batch_reference)

    def prior_losses(self, access: Access[WhiteBoxOracle], images: Tensor) -> Tensor:
        """Minus the critic's value."""
        return -access.required_prior.realism(images)

    def constrain(self, access: Access[WhiteBoxOracle], variables: Variables, kept: State) -> Variables:
        """Clamp every latent number to [-bound, bound]."""
        bound = self.config.bound
        return {name: variable.clamp(-bound, bound) for name, variable in variables.items()}

    def protocol(self) -> dict[str, Any]:
        """Adds the batch size that losses are divided by."""
        return super().protocol() | {"batch_reference": self.config.batch_reference}
