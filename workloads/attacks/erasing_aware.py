"""The attacker who knows that images were erased: the same boxes stand inside his objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from workloads.attacks.base import ATTACKS, Access, AttackConfig
from workloads.attacks.hosted import HostedAttack, HostedConfig
from workloads.checkpoints import State
from workloads.config import ComponentConfig
from workloads.context import JobContext
from workloads.defenses.random_erasing import RandomErasingConfig, draw_boxes
from workloads.erased import erased
from workloads.oracles import WhiteBoxOracle
from workloads.views import Generators, View


class ErasingAwareConfig(HostedConfig):
    kind: Literal["erasing_aware"] = "erasing_aware"
    erasing: RandomErasingConfig | None = None
    """The law of the boxes; that of the target's own defense where omitted. Against a target without one this attack
    is its host."""
    draws: PositiveInt = 1
    """Boxes that each image is seen through at each step; the loss is their mean."""
    erase_teacher: bool = False
    """Fit a prior that the target model teaches on erased images as well."""

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
class ErasingAware(HostedAttack):
    """Any white-box attack whose target model sees each candidate through fresh random boxes of the defense's law.

    A target model trained on erased images expects them, so what an attacker shows it whole is off its distribution;
    the expectation over boxes puts the search where the training was. Whether the defense still helps against this is
    the question to ask before trusting it.

    Source: this project, in the spirit of Athalye et al., "Obfuscated Gradients Give a False Sense of Security", ICML
    2018, section 4.2 (expectation over transformation).
    """

    needs_public_images = True  # for the colour that the defense painted, which public images share
    config: ErasingAwareConfig
    stages = ("the host's, through boxes",)

    @property
    def identity_weight(self) -> float:
        return self.host.identity_weight / self.config.draws

    def prepare(self, access: Access[WhiteBoxOracle], identities: Tensor, *, context: JobContext) -> State:
        assert access.public_images is not None
        mean = access.public_images.double().mean((0, 2, 3)).div(255).float()
        return super().prepare(access, identities, context=context) | {"public_mean": mean}

    def views(self, access: Access[WhiteBoxOracle]) -> Sequence[View]:
        assert self.config.erasing is not None
        boxes = ErasedView(self.config.erasing, access.findings["public_mean"], access.target)
        return [Seen(view, boxes) for view in self.host.views(access) for _ in range(self.config.draws)]


@dataclass(frozen=True)
class Seen:
    """One view after another."""

    first: View
    second: View

    def __call__(self, images: Tensor, generators: Generators) -> Tensor:
        own = list(generators)
        return self.second(self.first(images, own), own)


@dataclass(frozen=True)
class ErasedView:
    """Images as the defense would have erased them, in [0, 1]. Shape: colour (C,), painted where `fill` is `mean`."""

    config: RandomErasingConfig
    colour: Tensor
    target: WhiteBoxOracle

    def __call__(self, images: Tensor, generators: Generators) -> Tensor:
        mean, std = self.target.original.mean, self.target.original.std
        normalized, colour = (images - mean) / std, (self.colour - mean.flatten()) / std.flatten()
        size = (images.shape[2], images.shape[3])
        rows = []
        for image, draws in zip(normalized.split(1), generators, strict=True):
            boxes = draw_boxes(1, size, self.config, generator=draws)
            rows.append(erased(image, self.config, boxes, mean=colour, draws=draws))
        return torch.cat(rows) * std + mean
