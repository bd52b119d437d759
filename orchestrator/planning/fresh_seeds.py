"""Seeds that a search did not use, for what confirms its points."""

from __future__ import annotations

import itertools
from collections.abc import Collection


def fresh_seeds(used: Collection[int], count: int) -> tuple[int, ...]:
    """The smallest seeds from 0 on that are not among those used.

    >>> fresh_seeds([0, 1, 5], 3)
    (2, 3, 4)
    """
    return tuple(itertools.islice((seed for seed in itertools.count() if seed not in used), count))
