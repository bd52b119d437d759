"""Settings of an attack around another attack, its host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import field_validator

from workloads.defenses.base import DefenseConfig
from workloads.defenses.random_erasing import RandomErasingConfig
from workloads.inversion.attack import ATTACKS, AttackConfig, SurrogateConfig
from workloads.inversion.identity_choice import IdentityChoice
from workloads.priors.base import PriorConfig


class WrappedAttackConfig(AttackConfig):
    """Settings of an attack that runs another one; the host's settings say whom it attacks and with which prior."""

    host: Annotated[AttackConfig, ATTACKS]
    """The attack that is run."""

    @field_validator("host")
    @classmethod
    def _is_one_attack(cls, host: AttackConfig) -> AttackConfig:
        if host.parts():
            raise ValueError(f"{host.kind} runs several attacks, which none can wrap: wrap one of those")
        return host

    @property
    def identities(self) -> IdentityChoice:
        """Whom the host attacks."""
        return self.host.identities

    def attacking(self, identities: IdentityChoice) -> Self:
        """A copy whose host attacks these people."""
        return self.model_copy(update={"host": self.host.attacking(identities)})

    @property
    def keep(self) -> int:
        """Reconstructions that the host keeps per identity."""
        return self.host.keep

    @property
    def candidates_per_identity(self) -> int:
        """Reconstructions that the host makes of each identity."""
        return self.host.candidates_per_identity

    @property
    def prior(self) -> PriorConfig | None:
        """The prior that the host searches."""
        return self.host.prior

    @property
    def needs_prior(self) -> bool:
        """Whether the host searches a prior."""
        return self.host.needs_prior

    @property
    def surrogates(self) -> tuple[SurrogateConfig, ...]:
        """The surrogates that the host asks."""
        return self.host.surrogates

    @property
    def teacher_erasing(self) -> RandomErasingConfig | None:
        """How images are erased while the host's prior and surrogates are trained."""
        return self.host.teacher_erasing

    def against(self, defenses: Sequence[DefenseConfig]) -> AttackConfig:
        """A copy around the host as it is run by an attacker who knows the defenses."""
        return self.model_copy(update={"host": self.host.against(defenses)})

    def with_prior(self, prior: PriorConfig | None) -> Self:
        """A copy around the host with this prior, if the host needs one and names none."""
        return self.model_copy(update={"host": self.host.with_prior(prior)})
