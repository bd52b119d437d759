"""Attacks that change a part of another attack: every opening is the host's unless a subclass says otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import field_validator
from torch import Tensor

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.config import ComponentConfig
from workloads.defenses.random_erasing import RandomErasingConfig
from workloads.inversion.attack import ATTACKS, Access, AttackConfig, Member
from workloads.inversion.gradient_search import WhiteBoxAttack
from workloads.inversion.optimizers import Rule, Variables
from workloads.inversion.rows import Rows
from workloads.observation.oracles import WhiteBoxOracle
from workloads.observation.views import View
from workloads.priors.base import Prior, PriorConfig


def _hosts(name: str) -> property:
    """A property of a config that is its host's."""
    return property(lambda config: getattr(config.host, name))


class HostedConfig(AttackConfig):
    """Settings of an attack that wraps another; whom it attacks, how often and with which prior are its host's."""

    host: Annotated[AttackConfig, ATTACKS]

    @field_validator("host")
    @classmethod
    def _is_one_attack(cls, host: AttackConfig) -> AttackConfig:
        if len(host.members()) > 1:
            raise ValueError(f"{host.kind} runs several attacks, which none can wrap: wrap one of those")
        return host

    identities: ClassVar = _hosts("identities")
    restarts: ClassVar = _hosts("restarts")
    made: ClassVar = _hosts("made")
    keep: ClassVar = _hosts("keep")
    steps: ClassVar = _hosts("steps")
    chunk_rows: ClassVar = _hosts("chunk_rows")
    converged: ClassVar = _hosts("converged")
    precision: ClassVar = _hosts("precision")
    prior: ClassVar = _hosts("prior")
    needs_prior: ClassVar = _hosts("needs_prior")
    surrogates: ClassVar = _hosts("surrogates")

    @property
    def teacher_erasing(self) -> RandomErasingConfig | None:
        return getattr(self.host, "teacher_erasing", None)

    def members(self) -> tuple[Member, ...]:
        return (self,)

    def against(self, defenses: Sequence[ComponentConfig]) -> AttackConfig:
        assert isinstance(self.host, AttackConfig)
        return self.model_copy(update={"host": self.host.against(defenses)})

    def with_prior(self, prior: PriorConfig | None) -> Self:
        assert isinstance(self.host, AttackConfig)
        return self.model_copy(update={"host": self.host.with_prior(prior)})


class HostedAttack(WhiteBoxAttack):
    """A white-box attack that searches as its host does."""

    config: Any

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        host = ATTACKS.build(config.host)
        assert isinstance(host, WhiteBoxAttack), config.host.kind
        self.host = host

    @classmethod
    def check(cls, config: Any, *, prior: Prior | None, classes: int) -> None:
        super().check(config, prior=prior, classes=classes)
        ATTACKS.class_of(config.host).check(config.host, prior=prior, classes=classes)

    @property
    def rule(self) -> Rule:
        return self.host.rule

    @property
    def identity_weight(self) -> float:
        return self.host.identity_weight

    @property
    def batch_reference(self) -> int:
        return self.host.batch_reference

    def prepare(self, access: Access[WhiteBoxOracle], identities: Tensor, *, context: JobContext) -> State:
        return self.host.prepare(access, identities, context=context)

    def start(self, access: Access[WhiteBoxOracle], rows: Rows) -> Variables:
        return self.host.start(access, rows)

    def latents_of(self, variables: Variables, rows: Rows, step: int) -> Tensor:
        return self.host.latents_of(variables, rows, step)

    def render(self, access: Access[WhiteBoxOracle], latents: Tensor, rows: Rows) -> Tensor:
        return self.host.render(access, latents, rows)

    def views(self, access: Access[WhiteBoxOracle]) -> Sequence[View]:
        return self.host.views(access)

    def identity_losses(self, access: Access[WhiteBoxOracle], images: Tensor, identities: Tensor) -> Tensor:
        return self.host.identity_losses(access, images, identities)

    def prior_losses(self, access: Access[WhiteBoxOracle], images: Tensor) -> Tensor:
        return self.host.prior_losses(access, images)

    def constrain(self, access: Access[WhiteBoxOracle], variables: Variables, kept: State) -> Variables:
        return self.host.constrain(access, variables, kept)

    def remember(self, kept: State, variables: Variables, losses: Tensor | None, step: int) -> State:
        return self.host.remember(kept, variables, losses, step)

    def settled(self, state: State) -> Tensor | None:
        return self.host.settled(state)

    def outcome(self, state: State) -> State:
        return self.host.outcome(state)

    def latents(self, access: Access[WhiteBoxOracle], state: State, rows: Rows) -> tuple[Rows, Tensor]:
        return self.host.latents(access, state, rows)

    def scores(self, access: Access[WhiteBoxOracle], images: Tensor, rows: Rows) -> Tensor:
        return self.host.scores(access, images, rows)

    def choose(self, scores: Tensor, identities: Tensor) -> Tensor:
        return self.host.choose(scores, identities)

    def protocol(self) -> dict[str, Any]:
        return self.host.protocol() | {"attack": self.config.kind, "host": self.config.host.kind}
