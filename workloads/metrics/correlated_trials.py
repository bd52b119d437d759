"""Which shares of success are compatible with trials that come in groups and succeed or fail together within them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np
import scipy  # its parts are imported where they are first used
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_ANGLES = np.linspace(0.0, np.pi / 2, 17)
CORRELATIONS: Floats = np.sin(_ANGLES) ** 2
"""Correlations within a group that are considered, from 0 to 1."""
_BETWEEN = np.sin(_ANGLES[1:-1]) ** 3  # Beta(2, 1/2), at angles equally far apart
_LOG_PRIOR: Floats = np.log(np.concatenate([[0.25], 0.5 * _BETWEEN / _BETWEEN.sum(), [0.25]]))
_SHARES: Floats = np.sin((np.arange(64) + 0.5) * np.pi / 128) ** 2  # each stands for as much of Beta(1/2, 1/2)

LEVEL = 0.046
"""Averaged mid-p below which a share is left out: a little under 5 %, since the correlation is estimated."""
CERTAIN_LEVEL = 0.063
"""A share whose tail probability lies above this is never left out: half of a large step can be much."""
_HALVINGS = 14  # to 0.0001 of a right angle, on the arcsine scale
_NEGLIGIBLE = -1e4  # logarithm of a probability that no sum notices, instead of minus infinity


class CorrelatedTrials:
    """Outcomes of experiments, each with the same groups of trials, and the shares of success they are compatible with.

    The number of successes of a group is beta-binomial: each group has a probability of its own, and `correlation` is
    that between two trials of one group. A share is tested by the total of successes, whose distribution follows
    exactly by convolution, with the two-sided tail probability of Blaker and half the probability of the outcome itself
    (mid-p). The correlation is not known, so tail probabilities are averaged over it, weighted by a prior (a quarter
    on 0, a quarter on 1, the rest Beta(2, 1/2)) and by how well a correlation explains the groups: the geometric mean
    of its likelihood at the share tested and of that averaged over all shares. The first alone is too cautious with few
    groups and the second too bold where a group hardly ever succeeds. `python -m benchmarks.coverage` shows how often
    the interval holds the truth.

    Source: Blaker, Canadian Journal of Statistics 28 (2000); Lancaster, JASA 56 (1961), for mid-p; Bayarri and Berger,
    JASA 95 (2000), for tail probabilities averaged over a nuisance parameter. The weights are this project's.
    """

    def __init__(self, successes: Integers, sizes: Integers) -> None:
        """Shape: successes (D, G) of D experiments, sizes (G,), the trials of each group."""
        self._sizes = {int(size): int((sizes == size).sum()) for size in np.unique(sizes)}
        self._totals = successes.sum(1)
        self._counts = {size: _counts(successes[:, sizes == size], size) for size in self._sizes}
        pairs = np.repeat(_SHARES, len(CORRELATIONS)), np.tile(CORRELATIONS, len(_SHARES))
        at_each = self._log_likelihood({size: _log_probabilities(*pairs, size) for size in self._sizes})
        averaged = scipy.special.logsumexp(at_each.reshape(-1, len(_SHARES), len(CORRELATIONS)), axis=1)
        self._log_weights = _LOG_PRIOR + averaged / 2

    def accept(self, share: float) -> NDArray[np.bool_]:
        """Whether a share strictly between 0 and 1 is compatible with each experiment, at 95 %. Shape: (D,)."""
        of_groups = {size: _log_probabilities(share, CORRELATIONS, size) for size in self._sizes}
        weights = scipy.special.softmax(self._log_weights + self._log_likelihood(of_groups) / 2, axis=1)
        totals, positions = np.unique(self._totals, return_inverse=True)
        distribution = _distribution_of_total(of_groups, self._sizes)
        tails = np.stack([_two_sided(row, totals) for row in distribution])
        tail, itself = ((weights * values[:, positions].T).sum(1) for values in (tails, distribution[:, totals]))
        accepted: NDArray[np.bool_] = (tail - itself / 2 > LEVEL) | (tail > CERTAIN_LEVEL)
        return accepted

    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share, of the one experiment there is."""
        trials = sum(size * groups for size, groups in self._sizes.items())
        (total,) = self._totals.tolist()

        def accepted(share: float) -> bool:
            return bool(self.accept(share)[0])

        low = 0.0 if total == 0 else _border(accepted, total / trials, 0.0)
        high = 1.0 if total == trials else _border(accepted, total / trials, 1.0)
        return low, high

    def _log_likelihood(self, of_groups: Mapping[int, Floats]) -> Floats:
        """Log-likelihood of each experiment.

        Args:
            of_groups: log-probabilities of groups of each size, as from `_log_probabilities`.

        Shape: to (D, S).
        """
        parts = [counts @ np.maximum(of_groups[size], _NEGLIGIBLE).T for size, counts in self._counts.items()]
        likelihood: Floats = np.sum(parts, axis=0)
        return likelihood


def distribution_of_total(share: float, correlations: Floats, sizes: dict[int, int]) -> Floats:
    """Probability of every total of successes, under each correlation.

    Args:
        sizes: number of groups of each size.

    Shape: (R,) to (R, trials + 1).
    """
    return _distribution_of_total({size: _log_probabilities(share, correlations, size) for size in sizes}, sizes)


def _distribution_of_total(of_groups: Mapping[int, Floats], sizes: Mapping[int, int]) -> Floats:
    """Probability of every total, from the log-probabilities of groups of each size. Shape: (R, size + 1) each."""
    trials = sum(size * groups for size, groups in sizes.items())
    length = scipy.fft.next_fast_len(trials + 1, real=True)
    spectra = [
        _power(scipy.fft.rfft(np.exp(of_groups[size]), n=length, axis=1), groups) for size, groups in sizes.items()
    ]
    spectrum = functools.reduce(np.multiply, spectra)
    distribution: Floats = scipy.fft.irfft(spectrum, n=length, axis=1)[:, : trials + 1].clip(min=0.0)
    return distribution


def _power(numbers: NDArray[np.complex128], exponent: int) -> NDArray[np.complex128]:
    """Complex numbers to a whole power from 1 on, by squaring: a tenth of what numpy's power or logarithms cost."""
    power = numbers
    for digit in f"{exponent:b}"[1:]:
        power = power * power * numbers if digit == "1" else power * power
    return power


def _counts(successes: Integers, size: int) -> Floats:
    """How many groups had each number of successes. Shape: (D, G) to (D, size + 1)."""
    rows = np.arange(len(successes))[:, None] * (size + 1)
    counts = np.bincount((rows + successes).ravel(), minlength=len(successes) * (size + 1))
    return counts.reshape(len(successes), size + 1).astype(np.float64)


def _log_probabilities(shares: Floats | float, correlations: Floats, size: int) -> Floats:
    """Log-probability of 0 to `size` successes in a group. Shape: (S,) or a number, (S,) to (S, size + 1)."""
    successes, share, correlation = np.arange(size + 1), np.reshape(shares, (-1, 1)), correlations[:, None]
    ways, log_share, log_rest = _log_ways(size), np.log(share), np.log1p(-share)
    independent = ways + successes * log_share + (size - successes) * log_rest
    if size == 1:
        return np.broadcast_to(independent, (len(correlations), 2))
    alone = np.full_like(independent, -np.inf)
    alone[:, [0]], alone[:, [-1]] = log_rest, log_share
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = (1 - correlation) / correlation
        a, b = share * scale, (1 - share) * scale
        mixed = ways + scipy.special.betaln(successes + a, size - successes + b) - scipy.special.betaln(a, b)
    probabilities: Floats = np.where(correlation == 0, independent, np.where(correlation == 1, alone, mixed))
    return probabilities


@functools.lru_cache(maxsize=1024)
def _log_ways(size: int) -> Floats:
    """Logarithm of how many ways there are to succeed 0 to `size` times. Shape: (size + 1,)."""
    successes = np.arange(size + 1)
    ways: Floats = (
        scipy.special.gammaln(size + 1)
        - scipy.special.gammaln(successes + 1)
        - scipy.special.gammaln(size - successes + 1)
    )
    return ways


def _two_sided(probabilities: Floats, totals: Integers) -> Floats:
    """Blaker's tail probability of totals: their smaller tail, and as much of the other as is no more likely.

    Shape: (trials + 1,), (K,) to (K,).
    """
    below, above = np.cumsum(probabilities), np.cumsum(probabilities[::-1])[::-1]
    below, above = np.concatenate([[0.0], below]), np.concatenate([above, [0.0]])
    lower, upper = below[totals + 1], above[totals]
    rounding = 1e-12
    other_above = above[::-1][np.searchsorted(above[::-1], lower + rounding, side="right") - 1]
    other_below = below[np.searchsorted(below, upper + rounding, side="right") - 1]
    tails: Floats = np.minimum(np.where(lower <= upper, lower + other_above, upper + other_below), 1.0)
    return tails


def _border(accepted: Callable[[float], bool], inside: float, outside: float) -> float:
    """The first share that is no longer accepted on the way from `inside` to `outside`, by bisection of the arcsine."""
    start, end = (float(np.arcsin(np.sqrt(share))) for share in (inside, outside))
    for _ in range(_HALVINGS):
        middle = (start + end) / 2
        start, end = (middle, end) if accepted(float(np.sin(middle) ** 2)) else (start, middle)
    return float(np.sin(end) ** 2)


@functools.lru_cache(maxsize=4096)
def _interval(groups: tuple[tuple[int, int], ...]) -> tuple[float, float]:
    successes, sizes = (np.array(values, dtype=np.int64) for values in zip(*groups, strict=True))
    return CorrelatedTrials(successes[None], sizes).interval()


def interval_of_share(successes: Integers, sizes: Integers) -> tuple[float, float]:
    """The 95 % interval of the share of success of new groups, from the successes among the trials of each group.

    Shape: (G,), (G,).
    """
    return _interval(tuple(sorted(zip(successes.tolist(), sizes.tolist(), strict=True))))
