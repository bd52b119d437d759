"""One measured number with what it is to reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Size = Literal["full", "tiny"]
"""`full` is what the numbers are about. `tiny` runs the same code in a moment on a CPU; its numbers mean nothing."""


@dataclass(frozen=True)
class Row:
    """A number of the benchmark. Fractions lie in [0, 1], times are seconds unless the unit says otherwise."""

    group: str
    """File that measures it."""
    name: str
    """What was measured, on what."""
    value: float | None
    """Median over rounds; None where this device cannot tell."""
    unit: str
    at_least: float | None = None
    """What `value` is to reach."""
    at_most: float | None = None
    """What `value` is to stay below."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Numbers that the value comes from, or that help to understand it."""

    @property
    def reached(self) -> bool | None:
        """Whether the value is as it should be; None if it is unknown or nothing is expected of it."""
        if self.value is None or (self.at_least is None and self.at_most is None):
            return None
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)

    def without_expectation(self) -> Row:
        """The number alone, where it cannot be compared with what is expected."""
        return replace(self, at_least=None, at_most=None)

    def as_json(self) -> dict[str, Any]:
        """The row as plain data, with whether it is reached."""
        return {**asdict(self), "reached": self.reached}
