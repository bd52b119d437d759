"""How alike reconstructions and the private images they come nearest to are, in structure."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from workloads.metrics.base import METRICS, MetricConfig, ReconstructionEvidence, ReconstructionMetric

ROWS = 256
WINDOW = 11


class SsimConfig(MetricConfig):
    kind: Literal["ssim"] = "ssim"


@METRICS.register(SsimConfig)
class Ssim(ReconstructionMetric):
    """Structural similarity to the private image of the identity whose features are nearest; 1 is the same image.

    Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004; torchmetrics.
    """

    def better(self) -> dict[str, str]:
        return {"ssim": "lower"}

    def rows(self, evidence: ReconstructionEvidence) -> dict[str, Tensor]:
        from torchmetrics.functional.image import structural_similarity_index_measure

        values = [
            structural_similarity_index_measure(
                made, real, data_range=1.0, kernel_size=WINDOW, reduction="none", return_full_image=False
            )
            for made, real in zip(evidence.images.split(ROWS), evidence.nearest_images().split(ROWS), strict=True)
        ]
        return {"ssim": torch.cat([torch.atleast_1d(own) for own in values]).double()}
