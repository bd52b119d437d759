"""Measure how often 95 % intervals hold the truth, on one core in three minutes: `python -m benchmarks.coverage`.

The code under test is that of the reports: `workloads.metrics.intervals`, `workloads.metrics.correlated_trials`, and
`orchestrator.statistics.over_seeds` for means over several trainings, priors and judges. An identity succeeds with a
probability of its own, drawn from the beta law with the mean and the correlation of the cell.

An interval depends on the outcome alone, so where there are few outcomes it cannot hold the truth in 95 of 100
experiments: of 3 identities with one reconstruction each, 0 to 3 succeed, and at a truth of 50 % any rule holds it in
75, 87.5 or 100. Cells where no range of totals has a probability from 93 to 98 % are marked by a star; with few
identities of many reconstructions a rule has to be wide where they are independent, since it cannot know that they are.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from orchestrator.statistics.over_seeds import total_interval
from workloads.metrics.correlated_trials import CorrelatedTrials, distribution_of_total
from workloads.metrics.intervals import interval_of_mean

IDENTITIES = (3, 5, 10, 20, 62, 300)
TRUTHS = (0.01, 0.02, 0.1, 0.5, 0.9, 0.98, 0.99)
RECONSTRUCTIONS = (1, 5, 50)
CORRELATIONS = (0.0, 0.3, 0.9, 1.0)
EXPERIMENTS = 4000
BATCH = 1000
LOWEST, HIGHEST = 0.93, 0.98

Draws = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]
LAWS: dict[str, tuple[Draws, float]] = {
    "normal, 10 +- 1": (lambda rng, shape: rng.normal(10, 1, shape), 10.0),
    "squared distance, chi2 of 5": (lambda rng, shape: rng.chisquare(5, shape), 5.0),
    "log-normal, sigma 0.5": (lambda rng, shape: rng.lognormal(0, 0.5, shape), float(np.exp(0.125))),
    "exponential": (lambda rng, shape: rng.exponential(1, shape), 1.0),
}
"""Laws of an identity's mean distance, with their means."""

DRAWS = ((2, 1, 1), (1, 1, 3), (2, 1, 3), (2, 2, 3), (3, 3, 3), (5, 2, 3))
"""How many trainings, priors and judges."""
SPREADS = (0.0, 0.05, 0.2)
"""What each draw of a kind moves all people by, as a standard deviation; one person from another by 0.3."""


def main() -> None:
    """Print coverage of every cell, in per cent."""
    experiments = int(sys.argv[1]) if len(sys.argv) > 1 else EXPERIMENTS
    started = time.perf_counter()
    print(f"Coverage of 95 % intervals of attack accuracy, per cent of {experiments} experiments")
    print("identities  each  correlation" + "".join(f"{f'{100 * truth:g} %':>9}" for truth in TRUTHS))
    outside = 0
    for identities, each, correlation in _cells():
        cells = [
            coverage(identities, each, correlation, truth, experiments=experiments, seed=number)
            for number, truth in enumerate(TRUTHS)
        ]
        stars = [can_lie_within(identities, each, correlation, truth) for truth in TRUTHS]
        outside += sum(not LOWEST <= cell <= HIGHEST and fits for cell, fits in zip(cells, stars, strict=True))
        texts = [f"{100 * cell:8.1f}{' ' if fits else '*'}" for cell, fits in zip(cells, stars, strict=True)]
        print(f"{identities:10} {each:5} {correlation:12}" + "".join(texts), flush=True)
    print(f"* no range of totals has a probability of 93 to 98 %. Outside of that without one: {outside} cells.")
    print("\nCoverage of 95 % intervals of mean distances, per cent; identities " + ", ".join(map(str, IDENTITIES)))
    for name, (draw, mean) in LAWS.items():
        covered = [coverage_of_mean(draw, mean, identities, experiments=experiments) for identities in IDENTITIES]
        print(f"{name:30}" + "".join(f"{100 * share:7.1f}" for share in covered))
    print("\nCoverage of 95 % total intervals, per cent; identities " + ", ".join(map(str, IDENTITIES)))
    print("trainings  priors  judges  spread")
    for counts, spread in ((counts, spread) for counts in DRAWS for spread in SPREADS):
        shares = [coverage_of_total(counts, people, spread, experiments=experiments // 4) for people in IDENTITIES]
        trainings, priors, judges = counts
        line = "".join(f"{100 * share:7.1f}" for share in shares)
        print(f"{trainings:9} {priors:7} {judges:7} {spread:7}" + line, flush=True)
    print(f"{time.perf_counter() - started:.0f} s")


def _cells() -> Iterator[tuple[int, int, float]]:
    for identities in IDENTITIES:
        for each in RECONSTRUCTIONS:
            for correlation in CORRELATIONS if each > 1 else (0.0,):
                yield identities, each, correlation


def coverage(identities: int, each: int, correlation: float, truth: float, *, experiments: int, seed: int = 0) -> float:
    """Share of simulated experiments whose interval holds the truth."""
    rng = np.random.default_rng([identities, each, int(100 * correlation), seed])
    sizes = np.full(identities, each)
    held = [
        CorrelatedTrials(successes(rng, truth, correlation, each, (count, identities)), sizes).accept(truth)
        for count in [BATCH] * (experiments // BATCH) + [experiments % BATCH] * (experiments % BATCH > 0)
    ]
    return float(np.concatenate(held).mean())


def successes(
    rng: np.random.Generator, truth: float, correlation: float, each: int, shape: tuple[int, int]
) -> NDArray[np.int64]:
    """Successes of each identity, beta-binomial."""
    if correlation in (0.0, 1.0):
        probabilities = np.full(shape, truth) if correlation == 0 else (rng.random(shape) < truth).astype(float)
    else:
        scale = (1 - correlation) / correlation
        probabilities = rng.beta(truth * scale, (1 - truth) * scale, shape)
    return rng.binomial(each, probabilities)


def can_lie_within(identities: int, each: int, correlation: float, truth: float) -> bool:
    """Whether some range of totals has a probability from 93 to 98 %, so that a rule could cover as much."""
    probabilities = distribution_of_total(truth, np.array([correlation]), {each: identities})[0]
    sums = np.concatenate([[0.0], probabilities.cumsum()])
    ends = np.searchsorted(sums, sums + LOWEST - 1e-9)
    starts = np.flatnonzero(ends < len(sums))
    return bool((sums[ends[starts]] - sums[starts] <= HIGHEST).any())


def coverage_of_mean(draw: Draws, mean: float, identities: int, *, experiments: int) -> float:
    """Share of simulated experiments whose interval of a mean of positive numbers holds it."""
    rng = np.random.default_rng(identities)
    rows = draw(rng, (experiments, identities))
    intervals = [interval_of_mean(row, np.arange(identities), scale="positive") for row in rows]
    return float(np.mean([low <= mean <= high for low, high in intervals]))


def coverage_of_total(counts: tuple[int, int, int], people: int, spread: float, *, experiments: int) -> float:
    """Share of simulated experiments whose total interval holds the mean over all draws and people.

    People vary by 0.3, what a person has with one draw and not with another by 0.2 for each kind of draw, and single
    values by 0.2. What is drawn once varies nothing: the interval is for it alone.
    """
    rng = np.random.default_rng([*counts, people, int(100 * spread)])
    held = 0
    for _ in range(experiments):
        values = rng.normal(0, 0.3, people) + rng.normal(0, 0.2, (*counts, people))
        for axis, count in enumerate(counts):
            shape = [count if other == axis else 1 for other in range(3)]
            if count > 1:
                values = values + rng.normal(0, spread, [*shape, 1]) + rng.normal(0, 0.2, [*shape, people])
        low, high = total_interval(values)
        held += low <= 0 <= high
    return held / experiments


if __name__ == "__main__":
    main()
