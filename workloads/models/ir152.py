"""A face network of 152 layers at 64 pixels."""

from __future__ import annotations

from typing import ClassVar, Literal

from workloads.models.base import MODELS, UnscaledInputConfig
from workloads.models.improved_residual import ImprovedResidual


class Ir152Config(UnscaledInputConfig):
    """Input range and weights of an IR-152 at 64 pixels."""

    version: ClassVar[int] = 2
    kind: Literal["ir152"] = "ir152"


@MODELS.register(Ir152Config)
class Ir152(ImprovedResidual):
    """IR-152 at 64 pixels, a target model of the low-resolution protocol.

    Source: Deng et al., "ArcFace", CVPR 2019; as in Chen et al., "Knowledge-Enriched Distributional Model Inversion
    Attacks", ICCV 2021.
    """

    blocks = (3, 8, 36, 3)
    size = 64
