"""How often and how fast a service is asked: a budget over all tries of a job, and a token bucket."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from workloads.core.config import FrozenConfig, Handling
from workloads.core.errors import BudgetError


class ServiceLimits(FrozenConfig):
    """How a service may be asked. Results do not depend on it, so that it can be changed between two runs."""

    budget: Annotated[PositiveInt | None, Handling()] = None
    """Images that one attack may send, all tries together and with those for its prior and surrogates; a call that is
    tried again counts again. The measuring of natural accuracy has as many of its own. If omitted, no limit."""
    rate: Annotated[PositiveFloat | None, Handling()] = None
    """Images a second, at most. Jobs that ask the service then run one at a time, on whichever node; two runs at once
    have this rate each. If omitted, as fast as it answers, by several jobs at once."""
    retries: Annotated[NonNegativeInt, Handling()] = 3
    """How often a call is tried again that raised one of `retry_on`."""
    retry_on: Annotated[tuple[str, ...], Handling()] = ("ConnectionError", "TimeoutError")
    """Exceptions after which a call is tried again: names of Python's own, or `module:Class`."""
    backoff_s: Annotated[PositiveFloat, Handling()] = 1.0
    """Seconds before the first retry; each further one waits twice as long."""


@dataclass
class TokenBucket:
    """Paces calls: a second's worth of images may be saved up, and what goes beyond is waited for."""

    rate: float
    """Images a second."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _tokens: float = 0.0
    _at: float = field(init=False)

    def __post_init__(self) -> None:
        self._at = self.clock()

    def take(self, count: int) -> None:
        """Wait until this many images may be sent."""
        now = self.clock()
        self._tokens = min(self._tokens + (now - self._at) * self.rate, self.rate) - count
        self._at = now
        if self._tokens < 0:
            self.sleep(-self._tokens / self.rate)


@dataclass
class QueryMeter:
    """Counts the images that a job sends to a service, before each call, so that no crash loses one."""

    budget: int | None = None
    """How many may be sent; None for no limit."""
    sent_by_others: int = 0
    """Sent by other jobs on whose results this one builds."""
    sent: int = 0
    """Sent by this job, over all of its tries."""
    keep: Callable[[int], None] = lambda sent: None
    """Stores `sent` for later tries."""
    bucket: TokenBucket | None = None

    def take(self, count: int) -> None:
        """Wait until this many images may be sent, and count them.

        Raises:
            BudgetError: if they are too many.
        """
        total = self.sent_by_others + self.sent
        if self.budget is not None and total + count > self.budget:
            raise BudgetError(
                f"the budget of {self.budget:,} images is used up: {total:,} were sent, over all tries, and the next "
                f"call has {count:,}. Raise target.budget to go on, or let the attack ask less."
            )
        self.sent += count
        self.keep(self.sent)
        if self.bucket is not None:
            self.bucket.take(count)
