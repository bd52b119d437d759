"""What an attack is: its settings, what it is given, and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.config import ComponentConfig, FrozenConfig, Steps
from workloads.core.errors import ConfigError
from workloads.core.registry import Registry
from workloads.defenses.base import DefenseConfig
from workloads.defenses.random_erasing import RandomErasingConfig
from workloads.inversion.early_stop import EarlyStopConfig
from workloads.inversion.identity_choice import IdentityChoice, count_of
from workloads.inversion.memory_batches import MemoryBatches
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
    """What the target model is asked for: its probabilities, or the class it names."""
    model: Annotated[ModelConfig, MODELS]
    """Architecture of the surrogate."""
    training: TrainingConfig
    """How the surrogate is trained."""
    generated_per_class: PositiveInt | None = None
    """Train on this many images of each class from the prior; on public images if omitted."""


class AttackConfig(ComponentConfig, ABC):
    """Settings of an attack: one that searches, one around another attack, or several in a row."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] | None = None
    """Name of the attack in results, needed where a spec has two of one kind; its kind if omitted."""

    if TYPE_CHECKING:  # fields of some attacks and properties of others: pydantic lets no field override a property

        @property
        def identities(self) -> IdentityChoice:
            """Who is attacked; all identities if None."""

        @property
        def keep(self) -> int:
            """Reconstructions kept per identity."""

        @property
        def candidates_per_identity(self) -> int:
            """Reconstructions made of each identity, of which `keep` are kept."""

        @property
        def prior(self) -> PriorConfig | None:
            """The prior that images come from; None for an attack without one, or of several with their own."""

        @property
        def needs_prior(self) -> bool:
            """Whether the attack searches the prior, which must then be there."""

    @property
    def label(self) -> str:
        """Name of the attack in results."""
        return self.name or self.kind

    @property
    def surrogates(self) -> tuple[SurrogateConfig, ...]:
        """Networks trained on the target model's answers before the attack begins."""
        return ()

    @property
    def teacher_erasing(self) -> RandomErasingConfig | None:
        """If set, the target model answers on images erased like this while prior and surrogates are trained."""
        return None

    def members(self) -> tuple[AttackConfig, ...]:
        """The attacks that search, each with a prior and surrogates of its own: several for a battery."""
        return (self,)

    def parts(self) -> tuple[AttackConfig, ...]:
        """Attacks that run as jobs of their own before this one, which picks from what they kept; none by default."""
        return ()

    def attacking(self, identities: IdentityChoice) -> Self:
        """A copy that attacks these people."""
        return self.model_copy(update={"identities": identities})

    @abstractmethod
    def with_prior(self, prior: PriorConfig | None) -> Self:
        """A copy with this prior wherever the attack needs one and names none."""

    def against(self, defenses: Sequence[DefenseConfig]) -> AttackConfig:
        """The attack as an attacker runs it who knows the defenses of the target model."""
        return self


class SearchConfig(AttackConfig):
    """Settings of an attack that searches row by row; a row is one restart of one identity."""

    needs_prior: ClassVar[bool] = True

    identities: IdentityChoice = None
    """Who is attacked: a number for the first N identities, a list of names, or `{count: 20, draw: random}` for as many
    drawn at random, the same for every point and attack; `all`, the default, for everybody."""
    restarts: PositiveInt = 5
    """Independent searches per identity."""
    keep: PositiveInt = 1
    """Reconstructions kept per identity: those that the target model scores highest."""
    steps: Steps = 1500
    """Steps of each search."""
    chunk_rows: PositiveInt = 256
    """Rows searched at once. Bounds memory; changes results by float rounding only."""
    converged: EarlyStopConfig | None = None
    """End a row early once its loss has settled; all rows run to the last step if omitted, as in the authors' code."""
    prior: Annotated[PriorConfig, PRIORS] | None = None
    """The prior that images come from; the spec's prior if omitted."""

    @model_validator(mode="after")
    def _keeps_at_most_all(self) -> SearchConfig:
        if self.keep > self.candidates_per_identity:
            raise ValueError(
                f"keep {self.keep} is above the {self.candidates_per_identity} made of each identity: lower it or make "
                "more"
            )
        return self

    @property
    def candidates_per_identity(self) -> int:
        """Reconstructions made of each identity, of which `keep` are kept."""
        return self.restarts

    def with_prior(self, prior: PriorConfig | None) -> Self:
        """A copy with this prior, unless the attack names one itself or needs none."""
        if self.prior or prior is None or not self.needs_prior:
            return self
        return self.model_copy(update={"prior": prior})


@dataclass(frozen=True)
class Access(Generic[Oracle_co]):
    """All that an attack is given: the threat model as a type. It holds no private data and no evaluation model."""

    target: Oracle_co
    """The target model, as far as the attacker may ask it."""
    device: torch.device
    channels: int = 3
    image_size: int = 32
    """Side of the images in pixels."""
    prior: Prior | None = None
    surrogates: tuple[Classifier, ...] = ()
    public_images: Tensor | None = None
    """For attacks that ask for them. Shape: (N, C, H, W) uint8."""
    lenses: tuple[View, ...] = ()
    """Views that every candidate passes on its way to the objective, which is averaged over them; none by default."""
    parts: tuple[Part, ...] = ()
    """What each attack of a battery has rebuilt."""
    findings: State = field(default_factory=dict)
    """What the attack's `prepare` returned."""
    batches: MemoryBatches = field(default_factory=MemoryBatches)
    """Splits rows into as many as memory holds."""

    @property
    def required_prior(self) -> Prior:
        """The prior, for an attack that needs one."""
        assert self.prior is not None
        return self.prior


@dataclass(frozen=True)
class Part:
    """What one attack of a battery kept.

    Shape: images (R, C, H, W) in [0, 1]; identities and restarts (R,) int64.
    """

    label: str
    """Name of the attack."""
    images: Tensor
    identities: Tensor
    restarts: Tensor
    queries: int
    """Images shown to the target model, also to make its prior and surrogates."""
    latent_steps: int
    """Search steps, summed over rows."""


@dataclass(frozen=True)
class Reconstructions:
    """What an attack returns: one row per image.

    Shape: images (R, C, H, W) in [0, 1]; latents (R, ...); identities and restarts (R,) int64; scores (R,), by which
    the attack ranks them; kept (R,) bool.
    """

    images: Tensor
    latents: Tensor
    identities: Tensor
    restarts: Tensor
    scores: Tensor
    kept: Tensor
    queries: int
    """Images shown to the target model. Rows that are done are computed along until the host looks, every 25 steps;
    what the target model says of them is not used, and not counted."""
    latent_steps: int
    """Search steps, summed over rows."""
    parts: Tensor | None = None
    """For several attacks, the one that rebuilt each row, by its place in the list. Shape: (R,) int64."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """More to record beside the numbers, as plain JSON values."""


class Attack(ABC, Generic[Oracle]):
    """Rebuilds images of identities from what it is given access to."""

    config: AttackConfig
    oracle: ClassVar[type[LabelOracle]]
    """What the attack asks of the target model, unless its settings decide: see `oracle_type`."""
    needs_public_images: ClassVar[bool] = False
    """Whether `Access.public_images` must be there."""
    takes_lenses: ClassVar[bool] = False
    """Whether its objective looks at images through `Access.lenses`."""
    tunes_prior: ClassVar[bool] = False
    """Whether it trains the prior further; it is then given the prior as it was fitted, without folded layers."""
    milder: ClassVar[str] = ""
    """Settings with which it asks less of the target model than by default, such as `search: genetic`."""
    stages: ClassVar[tuple[str, ...]]
    """What happens, in order, in a word or two per stage."""

    def __init__(self, config: AttackConfig) -> None:
        self.config = config

    @classmethod
    def facts(cls, config: type[AttackConfig]) -> dict[str, str]:
        """What a list of attacks says about it: its access, what it needs, and its stages."""
        return {"access": cls.oracle.access, "needs": _needs(config), "stages": ", ".join(cls.stages)}

    @property
    def oracle_type(self) -> type[LabelOracle]:
        """What the attack asks of the target model with its settings."""
        return self.oracle

    @property
    def picks_identities(self) -> bool:
        """Whether the attack picks the identities it attacks itself, instead of those that `run` is given."""
        return False

    def check(self, *, prior: Prior | None, classes: int) -> None:
        """Check the settings against the prior, built without weights, and the number of classes.

        Raises:
            ConfigError: if they do not fit, with the way out.
        """
        config = self.config
        if config.needs_prior and prior is None:
            raise ConfigError(
                f"{config.label} needs a prior: give one to the attack or the spec, for example "
                "prior: {kind: wgan_gp}."
            )
        prior_access = prior.target_access if prior is not None else None
        if prior is not None and prior_access is not None and not issubclass(self.oracle_type, prior_access):
            raise ConfigError(
                f"prior: {prior.config.kind} asks the target model for more ({prior_access.access}) than "
                f"{config.label} may ({self.oracle_type.access}): give the attack another prior."
            )
        if (count := count_of(config.identities, classes)) > classes:
            raise ConfigError(
                f"identities: {config.label} attacks {count} classes, but the target model has {classes}: lower it or "
                "leave it out."
            )

    def planned_queries(self, identities: int) -> int:
        """Images of which it asks the target model in any case; none that an early end would leave out."""
        return 0

    def check_target(self, target_model: Classifier) -> None:
        """Check the settings against the architecture of the target model, with or without its weights.

        Raises:
            ConfigError: if they do not fit, with the way out.
        """

    @abstractmethod
    def run(self, access: Access[Oracle], identities: Tensor, *, context: JobContext) -> Reconstructions:
        """Attack each of `identities`, (I,) int64 class indices; continues from the job's checkpoint."""

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """What has to be stored beside every number of this attack, as plain JSON values."""


def search_protocol(config: SearchConfig, *, access: str, selection: str) -> dict[str, Any]:
    """The protocol of an attack that searches row by row; `selection` says in words what ranks reconstructions."""
    candidates = config.candidates_per_identity
    return {
        "attack": config.kind,
        "access": access,
        "steps": config.steps,
        "restarts": config.restarts,
        "made": candidates,
        "kept": config.keep,
        "selection": "all" if config.keep >= candidates else f"best {config.keep} by {selection}",
        "converged": config.converged.model_dump() if config.converged else None,
    }


def check_realism(config: AttackConfig, prior: Prior | None, *, usual: str) -> None:
    """Refuse a prior that does not judge how real an image looks; `usual` names one that does.

    Raises:
        ConfigError: if the prior has no such judgement.
    """
    if prior is not None and not prior.scores_realism:
        raise ConfigError(
            f"prior: {config.label} descends on how real images look, which {prior.config.kind} as it is set does not "
            f"judge: take {usual}."
        )


def check_attacks_given_identities(attack: Attack[Any]) -> None:
    """Refuse an attack that picks its own identities, where another attack has to tell it which to attack.

    Raises:
        ConfigError: if the attack picks identities.
    """
    if attack.picks_identities:
        raise ConfigError(
            f"fidelity: {attack.config.label} as its authors run it attacks those it hits first, but here another "
            "attack says which to attack: leave its fidelity at fixed."
        )


def _needs(config: type[AttackConfig]) -> str:
    """What has to be there before an attack with these settings, in a few words."""
    prior = config.model_fields.get("prior")
    if prior is None:
        return "other attacks"
    if issubclass(config, SearchConfig) and not config.needs_prior:
        return "nothing"
    return f"its own prior, {prior.default.kind}" if prior.default is not None else "a prior"


ATTACKS: Registry[AttackConfig, Attack[Any]] = Registry("workloads.attacks")
"""All attacks by kind. The oracle of an attack is known at run time only, hence `Attack[Any]`."""
