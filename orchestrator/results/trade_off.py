"""The trade-off of a defended point against no defense: attack accuracy lost for natural accuracy lost."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.results.sweep_result import PointResult


@dataclass(frozen=True)
class TradeOff:
    """Both differences, as fractions, and their ratio.

    Source: the usual definition, attack accuracy lost over natural accuracy lost; larger is better.
    """

    attack_lost: float
    utility_lost: float
    ratio: float | None
    """None unless utility was surely lost: a quotient by zero, by noise or by a gain says nothing about a defense."""
    error: float | None
    """Standard error of the ratio, by propagation from the differences per training seed; None for one seed."""

    def __str__(self) -> str:
        lost = f"{100 * self.attack_lost:.1f} / {100 * self.utility_lost:.1f} points"
        if self.ratio is None:
            return f"no sure utility loss ({lost})"
        spread = "" if self.error is None else f" ± {self.error:.1f}"
        return f"{self.ratio:.1f}{spread} ({lost})"


def trade_off(
    defended: PointResult, baseline: PointResult, *, utility: str, attack: str, surely_lost: bool
) -> TradeOff:
    """The trade-off of a defended point; `utility` and `attack` name the numbers that are compared.

    Args:
        surely_lost: whether the interval of the difference in utility lies below 0.
    """
    seeds = sorted(_by_seed(defended, attack).keys() & _by_seed(baseline, attack).keys())
    attack_lost, utility_lost = (_lost(defended, baseline, name, seeds) for name in (attack, utility))
    numerator, denominator = (baseline.mean(name) - defended.mean(name) for name in (attack, utility))
    if not surely_lost:
        return TradeOff(numerator, denominator, None, None)
    ratio = numerator / denominator
    return TradeOff(numerator, denominator, ratio, _error(attack_lost, utility_lost, ratio, denominator))


def _by_seed(point: PointResult, name: str) -> dict[int, float]:
    return {trial.plan.trial.seed: trial.value(name) for trial in point.trials}


def _lost(defended: PointResult, baseline: PointResult, name: str, seeds: Sequence[int]) -> list[float]:
    """How much each of the seeds lost, which both points have."""
    before, after = _by_seed(baseline, name), _by_seed(defended, name)
    return [before[seed] - after[seed] for seed in seeds]


def _error(
    attack_lost: Sequence[float], utility_lost: Sequence[float], ratio: float, denominator: float
) -> float | None:
    """Standard error of a ratio of means of paired differences, to first order."""
    if len(attack_lost) < 2:
        return None
    residuals = [gain - ratio * cost for gain, cost in zip(attack_lost, utility_lost, strict=True)]
    return statistics.stdev(residuals) / math.sqrt(len(residuals)) / denominator
