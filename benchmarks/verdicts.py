"""Simulate sweeps, and count how often a report would say that a defense helps: `python -m benchmarks.verdicts`.

The code under test is that of the reports, `orchestrator.statistics.paired`. A person is recognised with a probability
drawn from a beta law and moved by the person's answer to the defense; a training moves all people of a model together.
The paired test beside it is a t test over people of the differences averaged over seeds, at 5 % for one point alone: it
is right where training does not matter, and knows nothing of the other points.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from orchestrator.statistics.paired import differences

SWEEPS = 400
EACH = 5
CORRELATION = 0.5


def main() -> None:
    """Print false and true verdicts, and the optimism of the best point."""
    started = time.perf_counter()
    print(f"Share of {SWEEPS} sweeps without any effect in which a report says that some point helps, per cent")
    print("people  points  seeds  training sd   says 'helps'   best of all looks better by, points")
    for people in (5, 20, 62):
        for points in (1, 6, 20):
            for seeds, training in ((1, 0.0), (2, 0.0), (2, 0.05), (3, 0.05), (5, 0.05)):
                said, best = false_verdicts(people, points, seeds, training, sweeps=SWEEPS)
                print(
                    f"{people:6} {points:7} {seeds:6} {training:12} {100 * said:14.1f} {100 * best:20.1f}", flush=True
                )
    print("\nA true fall of 15 points, 62 people: found by the report, and by the paired test, per cent")
    for points in (1, 6):
        for seeds in (1, 2, 3, 5):
            ours, paired = power(62, points, seeds, fall=0.15, sweeps=SWEEPS)
            print(f"{points:7} points {seeds:3} seeds {100 * ours:8.1f} {100 * paired:8.1f}", flush=True)
    print(f"{time.perf_counter() - started:.0f} s")


def false_verdicts(people: int, points: int, seeds: int, training: float, *, sweeps: int) -> tuple[float, float]:
    """Share of sweeps without effect in which some point is said to help, and how much the best seems to."""
    rng = np.random.default_rng([people, points, seeds, int(1000 * training)])
    said, best = [], []
    for _ in range(sweeps):
        numbers = simulated(rng, people, points, seeds, training)
        found = differences(numbers[0], numbers[1:], smallest_step=1.0)
        said.append(any(difference.sign < 0 for difference in found))
        best.append(-min(difference.value for difference in found))
    return float(np.mean(said)), float(np.mean(best))


def power(people: int, points: int, seeds: int, *, fall: float, sweeps: int) -> tuple[float, float]:
    """How often a fall of one point is found, by the report and by a t test over people for that point alone."""
    rng = np.random.default_rng([people, points, seeds])
    ours, paired = [], []
    for _ in range(sweeps):
        numbers = simulated(rng, people, points, seeds, 0.0, fall=fall)
        ours.append(differences(numbers[0], numbers[1:], smallest_step=1.0)[0].sign < 0)
        changes = (numbers[1] - numbers[0]).mean(0)
        paired.append(changes.mean() < 0 and stats.ttest_1samp(changes, 0.0).pvalue < 0.05)
    return float(np.mean(ours)), float(np.mean(paired))


def simulated(
    rng: np.random.Generator, people: int, points: int, seeds: int, training: float, *, fall: float = 0.0
) -> NDArray[np.float64]:
    """Share of each person's reconstructions that are recognised. Shape: (1 + points, seeds, people).

    Args:
        training: standard deviation of a model's mean from one training to another, about.
        fall: how much less the first point after the baseline has.
    """
    scale = (1 - CORRELATION) / CORRELATION
    person = np.where(rng.random(people) < 0.7, rng.beta(0.6 * scale, 0.4 * scale, people), 0.6)
    logits = special.logit(person.clip(0.02, 0.98)) + 0.5 * rng.standard_normal((1 + points, 1, people))
    logits = logits + training / 0.17 * rng.standard_normal((1 + points, seeds, 1))
    probabilities = special.expit(logits)
    probabilities[1] = (probabilities[1] - fall).clip(0, 1)
    return rng.binomial(EACH, probabilities) / EACH


if __name__ == "__main__":
    main()
