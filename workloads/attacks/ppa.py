"""PPA: descend on the Poincare distance from the best styles of a pool, and keep what convinces in many views."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor
from torch.nn import functional as F

from workloads.core.config import Preset, Steps, with_preset
from workloads.core.errors import ConfigError
from workloads.inversion.attack import ATTACKS, Access
from workloads.inversion.optimizers import Adam, Descent, steps_down
from workloads.inversion.style_search import StyleSearch, StyleSearchConfig
from workloads.observation.oracles import WhiteBoxOracle
from workloads.priors.base import Prior

OFFICIAL = {"pool_seed": 42, "restarts": 200, "keep": 50, "batch_reference": 25, "milestones": ()}
PRESETS: dict[str, dict[str, Any]] = {
    # The authors' runs on FaceScrub, CelebA and Stanford Dogs.
    "official": OFFICIAL | {"pool": 2000, "steps": 50},
    "celeba": OFFICIAL | {"pool": 5000, "steps": 70},
    "dogs": OFFICIAL | {"pool": 2000, "steps": 100, "lr": 0.01, "view": {"scale": (0.75, 1.0)}},
    # Tran et al., TMLR 2025, on FaceScrub: far cheaper, so its numbers compare with each other only.
    "midre": {
        **{"pool_seed": 42, "restarts": 16, "keep": 8, "batch_reference": 16, "milestones": (30, 40)},
        **{"pool": 2000, "steps": 50},
    },
}


class PpaConfig(StyleSearchConfig):
    """Settings of PPA; the defaults are those of the authors' code for FaceScrub, without its crop of the prior."""

    version: ClassVar[int] = 3
    kind: Literal["ppa"] = "ppa"
    preset: Annotated[Literal["official", "celeba", "dogs", "midre"] | None, Preset()] = None
    """A published budget that fills in fields which the spec leaves out; `fidelity` and `centre_crop` are not in it."""
    restarts: PositiveInt = 200
    """Entries of the pool, per identity, that a search starts from."""
    keep: PositiveInt = 50
    """Reconstructions kept per identity: those with the highest mean confidence over random views."""
    steps: Steps = 50
    """Steps of each search."""
    milestones: tuple[PositiveInt, ...] = ()
    """Steps after each of which the learning rate is multiplied by `gamma`; (30, 40) in the authors' example."""
    gamma: PositiveFloat = 0.1
    """Factor of the learning rate at each milestone."""
    discriminator_weight: NonNegativeFloat = 0.0
    """Weight of the discriminator term softplus(-realism); above 0 it needs a prior that judges images."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, values: Any) -> Any:
        return with_preset(PRESETS.get(str(values.get("preset")), {}), values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _discriminator_sees_uncropped_images(self) -> PpaConfig:
        if self.discriminator_weight and self.centre_crop < 1:
            raise ValueError("a discriminator judges whole images: set discriminator_weight to 0 or centre_crop to 1")
        return self


@ATTACKS.register(PpaConfig)
class Ppa(StyleSearch):
    """Plug & play: 200 of a pool's styles by Adam on the Poincare distance, 50 kept by mean confidence in 100 views.

    The loss is `poincare` in `workloads/observation/losses.py`. The target model chooses among images as they are
    stored, clipped; the authors show it unclipped ones.

    Source: Struppek et al., "Plug & Play Attacks: Towards Robust and Flexible Model Inversion Attacks", ICML 2022.
    """

    config: PpaConfig
    stages = ("score a pool", "descend", "select by views")

    def check(self, *, prior: Prior | None, classes: int) -> None:
        """Refuse a discriminator term if the prior judges no images."""
        super().check(prior=prior, classes=classes)
        assert prior is not None
        if self.config.discriminator_weight and not prior.scores_realism:
            raise ConfigError(
                f"discriminator_weight: {prior.config.kind} does not judge images: set it to 0, or take another prior."
            )

    @property
    def descent(self) -> Descent:
        """Adam, with the learning rate lowered at the milestones."""
        schedule = steps_down(self.config.milestones, self.config.gamma)
        rule = Adam(self.config.lr, self.config.betas, schedule=schedule)
        return Descent(rule, batch_reference=self.config.batch_reference)

    def prior_losses(self, access: Access[WhiteBoxOracle], images: Tensor) -> Tensor:
        """The weighted discriminator term softplus(-realism), if it has a weight."""
        if not self.config.discriminator_weight:
            return super().prior_losses(access, images)
        return self.config.discriminator_weight * F.softplus(-access.required_prior.realism(images))

    def protocol(self) -> dict[str, Any]:
        """Adds preset and milestones."""
        return super().protocol() | {"preset": self.config.preset, "milestones": list(self.config.milestones)}
