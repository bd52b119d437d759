"""The scale that the numbers of an attack stand on: what it has to beat, and what none can exceed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.results.pooling import EstimateRecord
from orchestrator.spec.model import Spec
from workloads.metrics.base import METRICS, AttackMetric


@dataclass(frozen=True)
class Scale:
    """A number of what is no attack, on either side of it; None where it was not measured."""

    floor: float | None = None
    """The most that samples of the prior, or public images, leak by this number."""
    floor_name: str = ""
    """Which of them that is: `null` or `nearest_public`."""
    ceiling: float | None = None
    """The number of real images of the people attacked, which no model was trained on."""

    def shape(self) -> dict[str, float]:
        """The ends that were measured, for programs."""
        ends = {"floor": self.floor, "ceiling": self.ceiling}
        return {name: end for name, end in ends.items() if end is not None}


def leak_signs(spec: Spec) -> dict[str, int]:
    """For each number of the spec's metrics of attacks 1 where more is a greater leak, -1 where less is."""
    metrics = [METRICS.build(config) for config in spec.metrics]
    return {
        name: 1 if better == "lower" else -1
        for metric in metrics
        if isinstance(metric, AttackMetric)
        for name, better in metric.better().items()
    }


def scale_of(
    floors: Mapping[str, Mapping[str, EstimateRecord]], ceiling: Mapping[str, EstimateRecord], name: str, sign: int
) -> Scale:
    """The scale of one number.

    Args:
        floors: every number of each floor, by its name.
        ceiling: every number of real images.
        sign: 1 where more is a greater leak, -1 where less is.
    """
    measured = {floor: float(numbers[name]["value"]) for floor, numbers in floors.items() if name in numbers}
    top = float(ceiling[name]["value"]) if name in ceiling else None
    if not measured:
        return Scale(ceiling=top)
    highest = max(measured, key=lambda floor: sign * measured[floor])
    return Scale(measured[highest], highest, top)
