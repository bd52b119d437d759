"""How near reconstructions come to the private images, pixel by pixel."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from workloads.metrics.base import METRICS, MetricConfig, ReconstructionEvidence, ReconstructionMetric
from workloads.metrics.intervals import Scale

SMALLEST_ERROR = 1e-10
"""Mean squared error below which two images count as equal: 100 dB."""


class PsnrConfig(MetricConfig):
    """PSNR has no settings."""

    kind: Literal["psnr"] = "psnr"


@METRICS.register(PsnrConfig)
class Psnr(ReconstructionMetric):
    """Peak signal-to-noise ratio, in dB, to the private image of the identity that is nearest in features.

    Source: the usual definition, -10 log10 of the mean squared error of images in [0, 1].
    """

    def better(self) -> dict[str, str]:
        """Less like the private image is better."""
        return {"psnr": "lower"}

    def scale(self, name: str) -> Scale:
        """Decibels can be negative."""
        return "real"

    def rows(self, evidence: ReconstructionEvidence) -> dict[str, Tensor]:
        """Decibels, against the nearest private image."""
        error = (evidence.images - evidence.nearest_images()).double().square().flatten(1).mean(1)
        return {"psnr": -10 * error.clamp(min=SMALLEST_ERROR).log10()}
