"""A face network of 152 layers at 64 pixels."""

from __future__ import annotations

from typing import Literal

from workloads.models.base import MODELS, ModelConfig
from workloads.models.improved_residual import ImprovedResidual


class Ir152Config(ModelConfig):
    kind: Literal["ir152"] = "ir152"
    input_mean: float = 0.0  # the low-resolution protocol feeds [0, 1] as it is
    input_std: float = 1.0


@MODELS.register(Ir152Config)
class Ir152(ImprovedResidual):
    """IR-152 at 64 pixels, a target model of the low-resolution protocol.

    Source: Deng et al., "ArcFace", CVPR 2019; as in Chen et al., "Knowledge-Enriched Distributional Model Inversion
    Attacks", ICCV 2021.
    """

    blocks = (3, 8, 36, 3)
    size = 64
