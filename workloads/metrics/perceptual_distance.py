"""How different reconstructions and the nearest private images look to the stages of a network."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from workloads.core.errors import ShapeError
from workloads.metrics.base import (
    METRICS,
    ExtractorMetricConfig,
    ReconstructionEvidence,
    ReconstructionMetric,
)
from workloads.models.base import stage_outputs

ROWS = 64
TINY = 1e-10


class PerceptualDistanceConfig(ExtractorMetricConfig):
    """The network whose feature maps are compared."""

    version: ClassVar = 3

    kind: Literal["perceptual_distance"] = "perceptual_distance"


@METRICS.register(PerceptualDistanceConfig)
class PerceptualDistance(ReconstructionMetric):
    """Distance of each stage's feature maps to those of the private image nearest in features; 0 is the same image.

    Maps are scaled to unit length along channels; squared differences are summed over channels, averaged over
    positions and summed over stages. This is LPIPS without its learned weights, so numbers differ from those of LPIPS.

    Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018.
    """

    config: PerceptualDistanceConfig

    def better(self) -> dict[str, str]:
        """Farther from the private images is better."""
        return {self.config.label: "higher"}

    @torch.no_grad()
    def rows(self, evidence: ReconstructionEvidence) -> dict[str, Tensor]:
        """The distance between feature maps, summed over the extractor's stages."""
        device = evidence.network.mean.device
        distances = []
        for pair in zip(evidence.images.split(ROWS), evidence.nearest_images().split(ROWS), strict=True):
            normalized = evidence.network.normalize(torch.cat(pair).to(device))
            maps = [output for output in stage_outputs(evidence.network, normalized) if output.ndim == 4]
            if not maps:
                raise ShapeError(f"{self.config.space} has no feature maps: take a convolutional extractor.")
            distances.append(torch.stack([_distance_of_halves(stage) for stage in maps]).sum(0))
        return {self.config.label: torch.cat(distances).double().cpu()}


def _distance_of_halves(maps: Tensor) -> Tensor:
    """Distance between the first and the second half of the rows. Shape: (2B, C, H, W) to (B,)."""
    first, second = F.normalize(maps, dim=1, eps=TINY).chunk(2)
    return (first - second).square().sum(1).mean((1, 2))
