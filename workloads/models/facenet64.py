"""A face network of 50 layers at 64 pixels."""

from __future__ import annotations

from typing import Literal

from workloads.models.base import MODELS, ModelConfig
from workloads.models.improved_residual import ImprovedResidual


class Facenet64Config(ModelConfig):
    kind: Literal["facenet64"] = "facenet64"
    input_mean: float = 0.0  # the low-resolution protocol feeds [0, 1] as it is
    input_std: float = 1.0


@MODELS.register(Facenet64Config)
class Facenet64(ImprovedResidual):
    """IR-50 at 64 pixels, which the low-resolution protocol calls FaceNet64.

    Source: Deng et al., "ArcFace", CVPR 2019; as in Chen et al., "Knowledge-Enriched Distributional Model Inversion
    Attacks", ICCV 2021.
    """

    blocks = (3, 4, 14, 3)
    size = 64
