"""Simulate sweeps, and count how often a report would say that a defense helps: `python -m benchmarks.verdicts`.

The code under test is that of the reports, `orchestrator.statistics.paired`. A person is recognised with a probability
drawn from a beta law and moved by the person's answer to the defense; a training moves all people of a model together,
and so do a prior and a judge, which moreover see each point in their way. Judges look at the same reconstructions.

Two tests of one point alone, at 5 %, stand beside a report's power. The first knows that no draw matters, which is so
in those sweeps: a t test over people of the differences averaged over draws. The second knows nothing but what the
trainings gave: a t test over their mean differences. A report must find out from the draws how much they matter. With
two draws and one defended point it has one or two degrees of freedom for that, so it lies between the two tests; from
three draws, or with six points, it reaches the first, but for the larger intervals that hold for all points together.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from orchestrator.statistics.paired import differences

SWEEPS = 400
EACH = 5
CORRELATION = 0.5
OPTIMISM = ((1, 0.0, 1, 0.0), (1, 0.05, 1, 0.0), (2, 0.05, 1, 0.0), (2, 0.05, 3, 0.05))
"""Seeds, their deviation, judges, and theirs, where the optimism of the best point is simulated."""
CONFIRMING = 3
"""Training seeds of a confirmation, the default of a spec."""
SLOPE = 0.17
"""How much a probability changes with its logit, about, at the means of this law."""
DRAWS = ((1, 1, 1), (1, 1, 3), (1, 2, 3), (2, 1, 1), (2, 1, 3), (2, 2, 3), (2, 3, 3), (3, 1, 3), (3, 3, 3), (5, 2, 3))
"""How many trainings, priors and judges, where power is simulated."""


@dataclass(frozen=True)
class Design:
    """What a simulated sweep has how many of, and how much its draws matter."""

    people: int
    points: int
    """With a defense; the baseline comes on top."""
    seeds: int
    training: float = 0.0
    """Standard deviation of a model's mean from one training to another, about."""
    priors: int = 1
    judges: int = 1
    drawn: float = 0.0
    """Standard deviation of how a prior, and a judge, sees one point otherwise than another, about. What it sees
    otherwise at all points alike has twice that. None of what is drawn once, of which alone a report then speaks."""


def main() -> None:
    """Print false and true verdicts, and the optimism of the best point."""
    started = time.perf_counter()
    print(f"Share of {SWEEPS} sweeps without any effect in which a report says that some point helps, per cent")
    print("people  points  seeds  training sd  priors  judges  their sd   says 'helps'   best looks better by, points")
    seeds_alone = [(1, 0.0, 1, 1, 0.0), (2, 0.0, 1, 1, 0.0), (2, 0.05, 1, 1, 0.0), (3, 0.05, 1, 1, 0.0)]
    with_draws = [(5, 0.05, 1, 1, 0.0), (1, 0.0, 1, 3, 0.05), (2, 0.05, 1, 3, 0.05)]
    with_draws += [(1, 0.0, 2, 3, 0.05), (2, 0.05, 2, 3, 0.05), (3, 0.05, 3, 3, 0.05), (5, 0.05, 2, 3, 0.05)]
    for people in (5, 20, 62):
        for points in (1, 6, 20):
            for seeds, training, priors, judges, drawn in (*seeds_alone, *with_draws):
                design = Design(people, points, seeds, training, priors, judges, drawn)
                said, best = false_verdicts(design, sweeps=SWEEPS)
                counts = f"{people:6} {points:7} {seeds:6} {training:12} {priors:7} {judges:7} {drawn:9}"
                print(f"{counts} {100 * said:14.1f} {100 * best:20.1f}", flush=True)
    print(
        "\nA true fall of 15 points, 62 people, no draw matters: found by a report, by the test that knows so, and by"
    )
    print("that over trainings alone, per cent")
    print("points  seeds  priors  judges   report    knows    trainings")
    for points in (1, 6):
        for seeds, priors, judges in DRAWS:
            design = Design(62, points, seeds, priors=priors, judges=judges)
            shares = " ".join(f"{100 * share:8.1f}" for share in power(design, fall=0.15, sweeps=SWEEPS))
            print(f"{points:6} {seeds:6} {priors:7} {judges:7} {shares}", flush=True)
    print("\nThe best of several points, no effect, 62 people: how much its fall was too good, points")
    print("points  seeds  training sd  judges  their sd   in the search   confirmed with 3 seeds")
    for points in (1, 6, 20):
        for seeds, training, judges, drawn in OPTIMISM:
            design = Design(62, points, seeds, training, judges=judges, drawn=drawn)
            before, after = optimism(design, sweeps=SWEEPS)
            counts = f"{points:6} {seeds:6} {training:12} {judges:7} {drawn:9}"
            print(f"{counts} {100 * before:15.1f} {100 * after:11.1f}", flush=True)
    print(f"{time.perf_counter() - started:.0f} s")


def false_verdicts(design: Design, *, sweeps: int) -> tuple[float, float]:
    """Share of sweeps without effect in which some point is said to help, and how much the best seems to."""
    rng = _generator(design)
    said, best = [], []
    for _ in range(sweeps):
        numbers = simulated(rng, design)
        found = differences(numbers[0], numbers[1:], smallest_step=1.0)
        said.append(any(difference.sign < 0 for difference in found))
        best.append(-min(difference.value for difference in found))
    return float(np.mean(said)), float(np.mean(best))


def power(design: Design, *, fall: float, sweeps: int) -> tuple[float, float, float]:
    """How often a fall of one point is found: by the report, by a t test over people, by one over trainings."""
    rng = _generator(design)
    ours, over_people, over_trainings = [], [], []
    for _ in range(sweeps):
        numbers = simulated(rng, design, fall=fall)
        ours.append(differences(numbers[0], numbers[1:], smallest_step=1.0)[0].sign < 0)
        changes = (numbers[1] - numbers[0]).mean((1, 2))
        over_people.append(_surely_falls(changes.mean(0)))
        over_trainings.append(_surely_falls(changes.mean(1)))
    return float(np.mean(ours)), float(np.mean(over_people)), float(np.mean(over_trainings))


def _surely_falls(changes: NDArray[np.float64]) -> bool:
    """Whether a t test at 5 % says that the mean is below 0; one value alone says nothing."""
    count = len(changes)
    if count == 1:
        return False
    error = float(changes.std(ddof=1)) / count**0.5
    return bool(changes.mean() + stats.t.ppf(0.975, count - 1) * error < 0)


def optimism(design: Design, *, sweeps: int) -> tuple[float, float]:
    """How much too good the fall of the best point is in the search that picks it, and confirmed with fresh draws.

    Both against the true fall for these people, whose answers to the points make it differ from none.
    """
    rng = _generator(design)
    confirming = replace(design, seeds=CONFIRMING)
    before, after = [], []
    for _ in range(sweeps):
        logits = _answers(rng, design)
        true_falls = _falls(special.expit(logits))
        searched, confirmed = (_falls(_drawn(rng, logits, drawn)) for drawn in (design, confirming))
        best = int(searched.argmax())
        before.append(searched[best] - true_falls[best])
        after.append(confirmed[best] - true_falls[best])
    return float(np.mean(before)), float(np.mean(after))


def _falls(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much less each point has than the baseline. Shape: (1 + points, ..., people) to (points,)."""
    means = numbers.reshape(len(numbers), -1).mean(1)
    return np.asarray(means[0] - means[1:])


def simulated(rng: np.random.Generator, design: Design, *, fall: float = 0.0) -> NDArray[np.float64]:
    """Share of each person's reconstructions that are recognised. Shape: (1 + points, seeds, priors, judges, people).

    Args:
        fall: how much less the first point after the baseline has.
    """
    return _drawn(rng, _answers(rng, design), design, fall=fall)


def _answers(rng: np.random.Generator, design: Design) -> NDArray[np.float64]:
    """Logit of the probability that a person is recognised at a point. Shape: (1 + points, 1, 1, 1, people)."""
    scale = (1 - CORRELATION) / CORRELATION
    people, points = design.people, 1 + design.points
    person = np.where(rng.random(people) < 0.7, rng.beta(0.6 * scale, 0.4 * scale, people), 0.6)
    return np.asarray(special.logit(person.clip(0.02, 0.98)) + 0.5 * rng.standard_normal((points, 1, 1, 1, people)))


def _drawn(
    rng: np.random.Generator, logits: NDArray[np.float64], design: Design, *, fall: float = 0.0
) -> NDArray[np.float64]:
    """What trainings, priors and judges make of these people."""
    people, points = design.people, 1 + design.points
    logits = logits + design.training / SLOPE * rng.standard_normal((points, design.seeds, 1, 1, 1))
    for shape in ((design.priors, 1, 1), (1, design.judges, 1)):
        if max(shape) == 1:  # a report speaks of this one alone, so what it sees otherwise is no error
            continue
        alike = 2 * rng.standard_normal((1, 1, *shape))
        logits = logits + design.drawn / SLOPE * (alike + rng.standard_normal((points, 1, *shape)))
    logits = logits + 0.25 * rng.standard_normal((points, 1, 1, design.judges, people))
    probabilities = special.expit(logits)
    probabilities[1] = (probabilities[1] - fall).clip(0, 1)
    pictures = rng.random((EACH, points, design.seeds, design.priors, 1, people))  # each judged by all judges
    return np.asarray((pictures < probabilities).mean(0))


def _generator(design: Design) -> np.random.Generator:
    numbers = [design.people, design.points, design.seeds, design.priors, design.judges]
    return np.random.default_rng([*numbers, int(1000 * design.training), int(1000 * design.drawn)])


if __name__ == "__main__":
    main()
