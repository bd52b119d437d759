"""RoLSS: weaken or remove the skip connections of some stages of a residual network."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from workloads.core.config import Fraction
from workloads.defenses.base import DEFENSES, Defense, DefenseConfig
from workloads.models.base import Classifier


class RolssConfig(DefenseConfig):
    """How much of the skip connections to keep."""

    kind: Literal["rolss"] = "rolss"
    factors: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (1.0, 1.0, 1.0, 0.0)
    """Factor on the shortcuts of each stage: 1 keeps them, 0 removes them. The paper removes those of the last stage
    in ResNet-34 and deeper networks, and keeps 0.6 of them in ResNet-18."""

    def change_model(self, model: Classifier) -> None:
        """Multiply the skip connections of each stage by its factor."""
        model.scale_shortcuts(self.factors)


@DEFENSES.register(RolssConfig)
class Rolss(Defense):
    """Train a residual network without the shortcuts of its last stage, which carry an attack's gradients.

    Changes the architecture only. The published code also drops the shortcuts of the last fifth of stage 3 in every
    network, undefended ones included; that is left out here.

    Source: Koh et al., "On the Vulnerability of Skip Connections to Model Inversion Attacks", ECCV 2024.
    """
