"""GMI: descend on the target's cross-entropy and the critic's realism, several starts an identity."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from workloads.core.checkpoints import State
from workloads.inversion.attack import ATTACKS, Access, check_judges
from workloads.inversion.gradient_search import GradientAttackConfig, WhiteBoxAttack
from workloads.inversion.optimizers import Nesterov, Variables
from workloads.observation.objectives import cross_entropy
from workloads.observation.oracles import WhiteBoxOracle
from workloads.priors.base import Prior


class GmiConfig(GradientAttackConfig):
    """Defaults are those of the authors' code."""

    version: ClassVar[int] = 2
    kind: Literal["gmi"] = "gmi"
    identity_weight: NonNegativeFloat = 100.0
    lr: PositiveFloat = 0.02
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    bound: PositiveFloat = 1.0
    """Of every latent number, after each step; the start may lie outside."""
    batch_reference: PositiveInt = 100
    """The batch size the authors divide by; the step of one latent is lr / batch_reference times its gradient."""


@ATTACKS.register(GmiConfig)
class Gmi(WhiteBoxAttack):
    """Generative model inversion: 100 x cross-entropy minus the critic's value, by Nesterov steps in a box.

    The best start of an identity is the one with the largest target logit; the authors begin at 0 and so never take
    a negative one, which is mended here.

    Source: Zhang et al., "The Secret Revealer: Generative Model-Inversion Attacks", CVPR 2020.
    """

    config: GmiConfig

    @classmethod
    def check(cls, config: Any, *, prior: Prior | None, classes: int) -> None:
        super().check(config, prior=prior, classes=classes)
        check_judges(config, prior, usual="wgan_gp")

    @property
    def rule(self) -> Nesterov:
        return Nesterov(self.config.lr, self.config.momentum)

    def identity_losses(self, access: Access[WhiteBoxOracle], images: Tensor, identities: Tensor) -> Tensor:
        return cross_entropy(access.target.logits(images), identities)

    def prior_losses(self, access: Access[WhiteBoxOracle], images: Tensor) -> Tensor:
        return -access.generator.realism(images)

    def constrain(self, access: Access[WhiteBoxOracle], variables: Variables, kept: State) -> Variables:
        return {name: own.clamp(-self.config.bound, self.config.bound) for name, own in variables.items()}

    @property
    def identity_weight(self) -> float:
        return self.config.identity_weight

    @property
    def batch_reference(self) -> int:
        return self.config.batch_reference

    def protocol(self) -> dict[str, object]:
        return super().protocol() | {"batch_reference": self.config.batch_reference}
