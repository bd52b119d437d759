"""How far reconstructions stay from the private images, in features of a face network."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from workloads.metrics.base import (
    METRICS,
    ExtractorMetricConfig,
    ReconstructionEvidence,
    ReconstructionMetric,
    nearest_private,
)
from workloads.models.facenet160 import Facenet160Config


class DeltaFaceConfig(ExtractorMetricConfig):
    """The face network that `delta_face` compares features of."""

    kind: Literal["delta_face"] = "delta_face"
    extractor: Facenet160Config
    """The face network with its VGGFace2 weights: `{weights: FILE}`."""


@METRICS.register(DeltaFaceConfig)
class DeltaFace(ReconstructionMetric):
    """Squared L2 distance to the nearest private training image, between the face network's unit vectors; 0 to 4.

    Source: Struppek et al., "Plug & Play Attacks", ICML 2022, section 5; Schroff et al., "FaceNet", CVPR 2015.
    """

    def better(self) -> dict[str, str]:
        """Farther from the private images is better."""
        return {"delta_face": "higher"}

    def rows(self, evidence: ReconstructionEvidence) -> dict[str, Tensor]:
        """Squared distance between unit features, to the nearest private image."""
        features, private = F.normalize(evidence.features), F.normalize(evidence.private_features)
        distances, _ = nearest_private(features, evidence.identities, private, evidence.private.identities)
        return {"delta_face": distances}
