"""P space: styles before the leaky ReLU that ends a mapping, where they are closer to normal, and a box in it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from workloads.core.checkpoints import State
from workloads.priors.base import Prior
from workloads.priors.staged import StagedPrior

LEAKY_SLOPE = 0.2  # of StyleGAN's mappings


@dataclass(frozen=True)
class PSpace:
    """The map from styles to P space, and back.

    Source: Zhu et al., "Improved StyleGAN Embedding: Where are the Good Latents?", 2020.
    """

    slope: float
    """Slope of the leaky ReLU below 0; 1 if there is none."""

    @staticmethod
    def of(prior: Prior) -> PSpace:
        """The P space of a prior; latents that come from no mapping lie in it as they are."""
        return PSpace(LEAKY_SLOPE if isinstance(prior, StagedPrior) else 1.0)

    def to(self, styles: Tensor) -> Tensor:
        """Styles as points of P space. Shape: kept."""
        return F.leaky_relu(styles, 1 / self.slope)

    def back(self, points: Tensor) -> Tensor:
        """Points of P space as styles. Shape: kept."""
        return F.leaky_relu(points, self.slope)

    def box(self, styles: Tensor, *, deviations: float) -> State:
        """Bounds of styles, `deviations` standard deviations around their mean in P space, and one deviation there.

        Shape: (N, S) to `lower`, `upper` and `spread` (1, S).
        """
        points = self.to(styles)
        mean, spread = points.mean(0, keepdim=True), points.std(0, keepdim=True, correction=0)
        reach = deviations * spread
        return {"lower": self.back(mean - reach), "upper": self.back(mean + reach), "spread": spread}


def in_box(styles: Tensor, findings: State) -> Tensor:
    """The nearest styles within the bounds of `PSpace.box`. Shape: (..., S), kept."""
    return styles.clamp(findings["lower"], findings["upper"])
