"""The attacker who knows that training images were erased: the same boxes stand inside the objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt
from torch import Tensor

from workloads.context import JobContext
from workloads.core.errors import ConfigError
from workloads.core.randomness import Draws
from workloads.defenses.base import DefenseConfig
from workloads.defenses.erased_images import erased_by_row
from workloads.defenses.random_erasing import RandomErasingConfig
from workloads.inversion.attack import ATTACKS, Access, Attack, AttackConfig, Reconstructions
from workloads.inversion.wrapped_attack import WrappedAttackConfig
from workloads.models.base import Classifier
from workloads.observation.oracles import LabelOracle, WhiteBoxOracle
from workloads.observation.views import View
from workloads.priors.base import Prior


class ErasingAwareConfig(WrappedAttackConfig):
    """Settings of an attack that looks at every candidate through random boxes; the attack itself is `host`."""

    version: ClassVar[int] = 4
    kind: Literal["erasing_aware"] = "erasing_aware"
    erasing: RandomErasingConfig | None = None
    """Parameters of the boxes; those of the target's own defense if omitted. Against a target without random erasing
    this attack is its host."""
    draws: PositiveInt = 1
    """Boxes that each image is seen through at each step; the loss is their mean."""
    erase_teacher: bool = False
    """Erase images also where the target model answers for the training of the host's prior or surrogates."""

    @property
    def teacher_erasing(self) -> RandomErasingConfig | None:
        """The boxes, if `erase_teacher` is set."""
        return self.erasing if self.erase_teacher else None

    def against(self, defenses: Sequence[DefenseConfig]) -> AttackConfig:
        """Take the boxes of the target's random erasing; without any, the attack is its host."""
        erasing = next((defense for defense in defenses if isinstance(defense, RandomErasingConfig)), None)
        if self.erasing is None and erasing is None:
            return self.host
        return self.model_copy(update={"erasing": self.erasing or erasing})


@ATTACKS.register(ErasingAwareConfig)
class ErasingAware(Attack[WhiteBoxOracle]):
    """Any white-box attack, with the target model seeing each candidate through fresh random boxes of the defense.

    A target model trained on erased images expects them, so a whole image is off its training distribution. Taking the
    expectation over boxes puts the search where the training was. Whether the defense still helps against this attack
    is the question to ask before trusting it.

    Source: this project, after Athalye et al., "Obfuscated Gradients Give a False Sense of Security", ICML 2018,
    section 4.2 (expectation over transformation).
    """

    oracle: ClassVar[type[LabelOracle]] = WhiteBoxOracle
    needs_public_images = True  # for the colour that the defense painted, which public images share
    config: ErasingAwareConfig
    stages = ("host attack, seen through random boxes",)

    def __init__(self, config: ErasingAwareConfig) -> None:
        super().__init__(config)
        self.host = ATTACKS.build(config.host)

    def check(self, *, prior: Prior | None, classes: int) -> None:
        """Refuse a host that does not descend on the target model itself."""
        super().check(prior=prior, classes=classes)
        if not (self.host.takes_lenses and issubclass(self.host.oracle_type, WhiteBoxOracle)):
            raise ConfigError(
                f"host: {self.config.host.kind} does not descend on the target model itself, so no box can stand "
                "between them: take a white-box attack, such as gmi."
            )
        self.host.check(prior=prior, classes=classes)

    def check_target(self, target_model: Classifier) -> None:
        """Check the host against the target model."""
        self.host.check_target(target_model)

    def run(self, access: Access[WhiteBoxOracle], identities: Tensor, *, context: JobContext) -> Reconstructions:
        """Run the host with `draws` random boxes as lenses."""
        assert access.public_images is not None
        assert self.config.erasing is not None
        colour = access.public_images.double().mean((0, 2, 3)).div(255).float().to(access.device)
        boxes = ErasedView(self.config.erasing, colour, access.target)
        return self.host.run(replace(access, lenses=(boxes,) * self.config.draws), identities, context=context)

    def protocol(self) -> dict[str, Any]:
        """The host's protocol, with the boxes and their number."""
        assert self.config.erasing is not None
        return self.host.protocol() | {
            "attack": self.config.kind,
            "host": self.config.host.kind,
            "erasing": self.config.erasing.model_dump(mode="json"),
            "draws": self.config.draws,
        }


@dataclass(frozen=True)
class ErasedView(View):
    """A view that erases images in [0, 1] as the defense would have erased them."""

    config: RandomErasingConfig
    colour: Tensor
    """Painted where `fill` is `mean`. Shape: (C,)."""
    target: WhiteBoxOracle

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        mean, std = self.target.original.mean, self.target.original.std
        normalized, colour = (images - mean) / std, (self.colour - mean.flatten()) / std.flatten()
        return erased_by_row(normalized, self.config, mean=colour, draws=draws) * std + mean
