"""What an attack is: its settings, what it is given, what it returns, and what happens between."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.config import ComponentConfig, FrozenConfig
from workloads.core.errors import ConfigError
from workloads.core.registry import Registry
from workloads.defenses.random_erasing import RandomErasingConfig
from workloads.inversion.early_stop import ConvergedConfig
from workloads.inversion.memory_batches import Parts
from workloads.models.base import MODELS, Classifier, ModelConfig
from workloads.observation.oracles import LabelOracle
from workloads.observation.views import View
from workloads.priors.base import PRIORS, Prior, PriorConfig
from workloads.recipes.optimization import TrainingConfig

Oracle = TypeVar("Oracle", bound=LabelOracle)
Oracle_co = TypeVar("Oracle_co", bound=LabelOracle, covariant=True)


class SurrogateConfig(FrozenConfig):
    """A network that the attacker trains to answer as the target model does."""

    answers: Literal["scores", "labels"]
    """What the target model is asked for."""
    model: Annotated[ModelConfig, MODELS]
    training: TrainingConfig
    generated_per_class: PositiveInt | None = None
    """Ask about so many images of each class from the prior; about public images where omitted."""


class Member(Protocol):
    """The settings of an attack that runs with a prior and surrogates of its own."""

    @property
    def kind(self) -> str: ...

    @property
    def label(self) -> str: ...

    @property
    def prior(self) -> PriorConfig | None: ...

    @property
    def surrogates(self) -> tuple[SurrogateConfig, ...]: ...

    @property
    def teacher_erasing(self) -> RandomErasingConfig | None: ...


class AttackConfig(ComponentConfig, ABC):
    """Settings of one attack, whatever it is made of.

    Beside these, each has `identities` (attack the first so many classes; all where None) and `keep` (reconstructions
    kept of each identity), as fields of its own or of the attack it wraps.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] | None = None
    """How results call it, where a spec has two of a kind; the kind where omitted."""

    @property
    def label(self) -> str:
        return self.name or self.kind

    @abstractmethod
    def members(self) -> tuple[Member, ...]:
        """The attacks that run, each with a prior and surrogates of its own."""

    @abstractmethod
    def with_prior(self, prior: PriorConfig | None) -> Self:
        """With this prior wherever one is needed and none is given."""

    def against(self, defenses: Sequence[ComponentConfig]) -> AttackConfig:
        """The attack as one would run it who knows the target's defenses."""
        return self


class SearchConfig(AttackConfig):
    """Whom to attack, how often, and what to keep, for an attack that searches row by row."""

    needs_prior: ClassVar[bool] = True
    teacher_erasing: ClassVar[RandomErasingConfig | None] = None
    """A law by which a prior's teacher sees erased images only."""

    identities: PositiveInt | None = None
    """Attack the first so many classes; all where omitted."""
    restarts: PositiveInt = 5
    """Independent tries for each identity."""
    keep: PositiveInt = 1
    """Reconstructions kept of each identity: those the target model scores highest; all where as many are made."""
    steps: PositiveInt = 1500
    chunk_rows: PositiveInt = 256
    """Rows searched at once: bounds memory and changes no result beyond float rounding."""
    converged: ConvergedConfig | None = None
    """Let rows whose loss has settled end early; none do where omitted, as in the originals."""
    prior: Annotated[PriorConfig, PRIORS] | None = None
    """Where images come from; the spec's prior where omitted."""

    @model_validator(mode="after")
    def _keeps_what_it_makes(self) -> SearchConfig:
        if self.keep > self.made:
            raise ValueError(f"keep {self.keep} is above the {self.made} made of each identity: lower it or make more")
        return self

    @property
    def made(self) -> int:
        """Reconstructions of each identity before any is chosen."""
        return self.restarts

    @property
    def surrogates(self) -> tuple[SurrogateConfig, ...]:
        """Networks to train from the target model's answers before the attack begins."""
        return ()

    def members(self) -> tuple[Member, ...]:
        return (self,)

    def with_prior(self, prior: PriorConfig | None) -> Self:
        if self.prior or prior is None or not self.needs_prior:
            return self
        return self.model_copy(update={"prior": prior})


@dataclass(frozen=True)
class Access(Generic[Oracle_co]):
    """All an attack is given: the threat model as a type. It holds no private data and no evaluation model.

    Shape: public_images (N, C, H, W) uint8, for attacks that ask for them.
    """

    target: Oracle_co
    device: torch.device
    channels: int = 3
    image_size: int = 32
    prior: Prior | None = None
    surrogates: tuple[Classifier, ...] = ()
    public_images: Tensor | None = None
    lenses: tuple[View, ...] = ()
    """What stands between every candidate and the target model inside an objective: the loss is the mean over them."""
    members: tuple[Access[Any], ...] = ()
    """What each attack is given of an attack that runs several."""
    findings: State = field(default_factory=dict)
    """What the attack's `prepare` found out."""
    parts: Parts = field(default_factory=Parts)
    """How many rows go through the networks at once."""

    @property
    def generator(self) -> Prior:
        """The prior of an attack that needs one."""
        assert self.prior is not None
        return self.prior


@dataclass(frozen=True)
class Reconstructions:
    """What an attack returns: one row for each image.

    Shape: images (R, C, H, W) in [0, 1]; latents (R, ...); identities and restarts (R,) int64; scores (R,), how the
    attack ranks them; kept (R,) bool.
    """

    images: Tensor
    latents: Tensor
    identities: Tensor
    restarts: Tensor
    scores: Tensor
    kept: Tensor
    queries: int
    latent_steps: int
    """Rows times the steps each was searched for."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else belongs beside its numbers."""


class Attack(ABC, Generic[Oracle]):
    """Rebuilds images of identities from what it has access to."""

    oracle: ClassVar[type[LabelOracle]]
    """What it asks of the target model, unless its settings decide."""
    needs_public_images: ClassVar[bool] = False
    takes_lenses: ClassVar[bool] = False
    """Whether its objective looks at images through `Access.lenses`."""
    tunes_prior: ClassVar[bool] = False
    """Whether it trains the prior further, which it then gets as it was fitted."""
    stages: ClassVar[tuple[str, ...]]
    """What happens, in order, in a word or two each."""
    selection: ClassVar[str] = "target score"
    """What chooses among the reconstructions of an identity, in words."""

    def __init__(self, config: Any) -> None:
        self.config: Any = config

    @classmethod
    def oracle_for(cls, config: Any) -> type[LabelOracle]:
        """What it asks of the target model with these settings."""
        return cls.oracle

    @classmethod
    def picks_identities(cls, config: Any) -> bool:
        """Whether it chooses by itself whom to attack, whoever was named."""
        return False

    @classmethod
    def facts(cls, config: Any) -> dict[str, str]:
        """What a list of attacks says of it: its access, what it needs, and its stages."""
        return {"access": cls.oracle.access, "needs": _needs(config), "stages": ", ".join(cls.stages)}

    @classmethod
    def check(cls, config: Any, *, prior: Prior | None, classes: int) -> None:
        """Accept the prior, built without weights, and the number of classes.

        Raises:
            ConfigError: with the way out.
        """
        if config.needs_prior and prior is None:
            raise ConfigError(
                f"{config.label} needs a prior: give the attack or the spec one, as prior: {{kind: wgan_gp}}."
            )
        teacher = prior.target_access if prior is not None else None
        oracle = cls.oracle_for(config)
        if prior is not None and teacher is not None and not issubclass(oracle, teacher):
            raise ConfigError(
                f"prior: {prior.config.kind} asks the target model for more ({teacher.access}) than {config.label} may "
                f"({oracle.access}): give the attack another prior."
            )
        check_identities(config, classes)

    @classmethod
    def check_target(cls, config: Any, target_model: Classifier) -> None:
        """Accept the architecture of the target model, with or without its weights.

        Raises:
            ConfigError: with the way out.
        """

    @abstractmethod
    def run(self, access: Access[Oracle], identities: Tensor, *, context: JobContext) -> Reconstructions:
        """Attack each of `identities`, (I,) int64 class indices; continues from the job's checkpoint."""

    def protocol(self) -> dict[str, Any]:
        """What has to stand beside every number this attack yields."""
        made, keep = self.config.made, self.config.keep
        return {
            "attack": self.config.kind,
            "access": self.oracle_for(self.config).access,
            "steps": self.config.steps,
            "restarts": self.config.restarts,
            "made": made,
            "kept": keep,
            "selection": "all" if keep >= made else f"best {keep} by {self.selection}",
            "converged": self.config.converged.model_dump() if self.config.converged else None,
        }


def check_identities(config: Any, classes: int) -> None:
    """Refuse to attack more people than there are."""
    if config.identities and config.identities > classes:
        raise ConfigError(
            f"identities: {config.label} attacks the first {config.identities} classes, but the target model has "
            f"{classes}: lower it or leave it out."
        )


def check_judges(config: Any, prior: Prior | None, *, usual: str) -> None:
    """Refuse a prior that cannot say how real an image looks; `usual` is one that can."""
    if prior is not None and not prior.scores_realism:
        raise ConfigError(
            f"prior: {config.label} descends on how real images look, which {prior.config.kind} as it is set does not "
            f"judge: take {usual}."
        )


def check_takes_names(config: Any) -> None:
    """Refuse an attack that picks whom it attacks where another attack tells it whom."""
    if ATTACKS.class_of(config).picks_identities(config):
        raise ConfigError(
            f"fidelity: {config.label} as its authors run it attacks whom it hits first, but is told whom here: leave "
            "its fidelity at fixed."
        )


def _needs(config: type[AttackConfig]) -> str:
    """What has to be there before an attack with these settings, in a few words."""
    fields = config.model_fields
    if "prior" not in fields:
        return "other attacks"
    if not getattr(config, "needs_prior", True):
        return "nothing"
    own = fields["prior"].default
    return f"its own prior, {own.kind}" if own is not None else "a prior"


ATTACKS: Registry[AttackConfig, Attack[Any]] = Registry("workloads.attacks")
