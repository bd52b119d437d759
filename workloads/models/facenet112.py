"""A face network of 50 layers at 112 pixels."""

from __future__ import annotations

from typing import ClassVar, Literal

from workloads.models.base import MODELS, UnscaledInputConfig
from workloads.models.improved_residual import ImprovedResidual


class Facenet112Config(UnscaledInputConfig):
    """Input range and weights of an IR-50 at 112 pixels."""

    version: ClassVar[int] = 2
    kind: Literal["facenet112"] = "facenet112"


@MODELS.register(Facenet112Config)
class Facenet112(ImprovedResidual):
    """IR-50 at 112 pixels, the evaluation model of the low-resolution protocol.

    Source: Deng et al., "ArcFace", CVPR 2019; as in Chen et al., "Knowledge-Enriched Distributional Model Inversion
    Attacks", ICCV 2021.
    """

    blocks = (3, 4, 14, 3)
    size = 112
