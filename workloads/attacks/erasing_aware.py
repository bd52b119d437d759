"""The attacker who knows that images were erased: the same boxes stand inside his objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from workloads.context import JobContext
from workloads.core.config import ComponentConfig
from workloads.core.errors import ConfigError
from workloads.defenses.erased_images import erased
from workloads.defenses.random_erasing import RandomErasingConfig, draw_boxes
from workloads.inversion.attack import ATTACKS, Access, Attack, AttackConfig, Reconstructions
from workloads.inversion.wrapped_attack import HostedConfig
from workloads.models.base import Classifier
from workloads.observation.oracles import LabelOracle, WhiteBoxOracle
from workloads.observation.views import Generators
from workloads.priors.base import Prior


class ErasingAwareConfig(HostedConfig):
    version: ClassVar[int] = 2
    kind: Literal["erasing_aware"] = "erasing_aware"
    erasing: RandomErasingConfig | None = None
    """The law of the boxes; that of the target's own defense where omitted. Against a target without one this attack
    is its host."""
    draws: PositiveInt = 1
    """Boxes that each image is seen through at each step; the loss is their mean."""
    erase_teacher: bool = False
    """Show the target erased images too where it teaches the host's prior or surrogates."""

    @property
    def teacher_erasing(self) -> RandomErasingConfig | None:
        return self.erasing if self.erase_teacher else None

    def against(self, defenses: Sequence[ComponentConfig]) -> AttackConfig:
        law = next((own for own in defenses if isinstance(own, RandomErasingConfig)), None)
        if self.erasing is None and law is None:
            assert isinstance(self.host, AttackConfig)
            return self.host
        return self.model_copy(update={"erasing": self.erasing or law})


@ATTACKS.register(ErasingAwareConfig)
class ErasingAware(Attack[WhiteBoxOracle]):
    """Any white-box attack whose target model sees each candidate through fresh random boxes of the defense's law.

    A target model trained on erased images expects them, so what an attacker shows it whole is off its distribution;
    the expectation over boxes puts the search where the training was. Whether the defense still helps against this is
    the question to ask before trusting it.

    Source: this project, in the spirit of Athalye et al., "Obfuscated Gradients Give a False Sense of Security", ICML
    2018, section 4.2 (expectation over transformation).
    """

    oracle: ClassVar[type[LabelOracle]] = WhiteBoxOracle
    needs_public_images = True  # for the colour that the defense painted, which public images share
    config: ErasingAwareConfig
    stages = ("the host's, through boxes",)

    @classmethod
    def check(cls, config: Any, *, prior: Prior | None, classes: int) -> None:
        super().check(config, prior=prior, classes=classes)
        host = ATTACKS.class_of(config.host)
        if not (host.takes_lenses and issubclass(host.oracle_for(config.host), WhiteBoxOracle)):
            raise ConfigError(
                f"host: {config.host.kind} does not descend on the target model itself, so no box can stand between "
                "them: take a white-box attack, as gmi."
            )
        host.check(config.host, prior=prior, classes=classes)

    @classmethod
    def check_target(cls, config: Any, target_model: Classifier) -> None:
        ATTACKS.class_of(config.host).check_target(config.host, target_model)

    def run(self, access: Access[WhiteBoxOracle], identities: Tensor, *, context: JobContext) -> Reconstructions:
        assert access.public_images is not None
        assert self.config.erasing is not None
        colour = access.public_images.double().mean((0, 2, 3)).div(255).float().to(access.device)
        boxes = ErasedView(self.config.erasing, colour, access.target)
        seeing = replace(access, lenses=(boxes,) * self.config.draws)
        return ATTACKS.build(self.config.host).run(seeing, identities, context=context)

    def protocol(self) -> dict[str, Any]:
        assert self.config.erasing is not None
        knows = {"erasing": self.config.erasing.model_dump(mode="json"), "draws": self.config.draws}
        names = {"attack": self.config.kind, "host": self.config.host.kind}
        return ATTACKS.build(self.config.host).protocol() | names | knows


@dataclass(frozen=True)
class ErasedView:
    """Images as the defense would have erased them, in [0, 1]. Shape: colour (C,), painted where `fill` is `mean`."""

    config: RandomErasingConfig
    colour: Tensor
    target: WhiteBoxOracle
    alike: ClassVar[bool] = False

    def __call__(self, images: Tensor, generators: Generators) -> Tensor:
        mean, std = self.target.original.mean, self.target.original.std
        normalized, colour = (images - mean) / std, (self.colour - mean.flatten()) / std.flatten()
        size = (images.shape[2], images.shape[3])
        rows = []
        for image, draws in zip(normalized.split(1), generators, strict=True):
            boxes = draw_boxes(1, size, self.config, generator=draws)
            rows.append(erased(image, self.config, boxes, mean=colour, draws=draws))
        return torch.cat(rows) * std + mean
