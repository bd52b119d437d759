"""The space of a search: one distribution for each field that is varied, and the numbers that are traded."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, model_validator

from workloads.core.config import FrozenConfig

Params = dict[str, Any]
"""Values of the varied fields, by dotted path."""


class Choice(FrozenConfig):
    """One of the listed values."""

    kind: Literal["choice"] = "choice"
    """A list of values."""
    values: Annotated[tuple[JsonValue, ...], Field(min_length=1)]
    """The values, at least one, each of a type that the field accepts."""

    def extremes(self) -> tuple[JsonValue, ...]:
        """The values that have to be valid: if they are, so is every value of the distribution."""
        return self.values


class _Range(FrozenConfig):
    """Any number between two."""

    low: float
    """Lowest value, below `high`."""
    high: float
    """Highest value."""

    @model_validator(mode="after")
    def _ordered(self) -> _Range:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        return self

    def extremes(self) -> tuple[JsonValue, ...]:
        """Both ends: if they are valid, so is every value between them."""
        return (self.low, self.high)


class Uniform(_Range):
    """Any number between two, each equally likely."""

    kind: Literal["uniform"] = "uniform"
    """A range of numbers, each equally likely."""


class LogUniform(_Range):
    """Any number between two, equally likely in logarithm: for aspect ratios, learning rates and weights."""

    kind: Literal["log_uniform"] = "log_uniform"
    """A range of numbers, equally likely in logarithm."""
    low: Annotated[float, Field(gt=0)]
    """Lowest value, above 0 and below `high`."""


class Integer(FrozenConfig):
    """Any whole number between two, both included."""

    kind: Literal["integer"] = "integer"
    """A range of whole numbers."""
    low: int
    """Lowest value."""
    high: int
    """Highest value, not below `low`."""

    @model_validator(mode="after")
    def _ordered(self) -> Integer:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self

    def extremes(self) -> tuple[JsonValue, ...]:
        """Both ends: if they are valid, so is every value between them."""
        return (self.low, self.high)


Distribution = Annotated[Choice | Uniform | LogUniform | Integer, Field(discriminator="kind")]
"""How the values of one field are chosen."""


class Objective(FrozenConfig):
    """A number to trade against the others."""

    metric: str
    """`natural_accuracy`, or the name of an attack, a dot and a metric: `gmi.attack_accuracy`."""
    goal: Literal["max", "min"]
    """Whether more of it is better (`max`) or less (`min`)."""
