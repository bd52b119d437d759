"""A face network of 50 layers at 64 pixels."""

from __future__ import annotations

from typing import ClassVar, Literal

from workloads.models.base import MODELS, UnscaledInputConfig
from workloads.models.improved_residual import ImprovedResidual


class Facenet64Config(UnscaledInputConfig):
    """Input range and weights of an IR-50 at 64 pixels."""

    version: ClassVar[int] = 2
    kind: Literal["facenet64"] = "facenet64"


@MODELS.register(Facenet64Config)
class Facenet64(ImprovedResidual):
    """IR-50 at 64 pixels, which the low-resolution protocol calls FaceNet64.

    Source: Deng et al., "ArcFace", CVPR 2019; as in Chen et al., "Knowledge-Enriched Distributional Model Inversion
    Attacks", ICCV 2021.
    """

    blocks = (3, 4, 14, 3)
    size = 64
