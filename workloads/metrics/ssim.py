"""How similar in structure reconstructions and the nearest private images are."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from workloads.metrics.base import METRICS, MetricConfig, ReconstructionEvidence, ReconstructionMetric
from workloads.metrics.intervals import Scale

ROWS = 256


class SsimConfig(MetricConfig):
    """SSIM has no settings."""

    kind: Literal["ssim"] = "ssim"


@METRICS.register(SsimConfig)
class Ssim(ReconstructionMetric):
    """Structural similarity to the private image of the identity that is nearest in features; 1 is the same image.

    Compared in Gaussian windows of 11 pixels (sigma 1.5), with a range of 1.

    Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004; torchmetrics.
    """

    def better(self) -> dict[str, str]:
        """Less like the private image is better."""
        return {"ssim": "lower"}

    def scale(self, name: str) -> Scale:
        """It lies in [-1, 1]."""
        return "real"

    def rows(self, evidence: ReconstructionEvidence) -> dict[str, Tensor]:
        """Structural similarity with the nearest private image."""
        from torchmetrics.functional.image import structural_similarity_index_measure

        device = evidence.network.mean.device
        values = [
            structural_similarity_index_measure(
                reconstructed.to(device), private.to(device), data_range=1.0, reduction="none", return_full_image=False
            )
            for reconstructed, private in zip(
                evidence.images.split(ROWS), evidence.nearest_images().split(ROWS), strict=True
            )
        ]
        return {"ssim": torch.cat([torch.atleast_1d(value) for value in values]).double().cpu()}
