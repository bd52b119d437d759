"""The space a sweep searches: one distribution for each field, named by its dotted path."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, PositiveInt, field_validator, model_validator

from orchestrator.errors import AtField
from workloads.core.config import FrozenConfig

Params = dict[str, Any]


class Choice(FrozenConfig):
    """One of the listed values."""

    kind: Literal["choice"] = "choice"
    values: Annotated[tuple[JsonValue, ...], Field(min_length=1)]

    def extremes(self) -> tuple[JsonValue, ...]:
        """Values that must be valid for the whole distribution to be."""
        return self.values


class _Range(FrozenConfig):
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> _Range:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        return self

    def extremes(self) -> tuple[JsonValue, ...]:
        return (self.low, self.high)


class Uniform(_Range):
    """Any number between two, each equally likely."""

    kind: Literal["uniform"] = "uniform"


class LogUniform(_Range):
    """Any number between two, equally likely in logarithm: for aspect ratios, learning rates and weights."""

    kind: Literal["log_uniform"] = "log_uniform"
    low: Annotated[float, Field(gt=0)]


class Integer(FrozenConfig):
    """Any whole number between two, both included."""

    kind: Literal["integer"] = "integer"
    low: int
    high: int

    @model_validator(mode="after")
    def _ordered(self) -> Integer:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self

    def extremes(self) -> tuple[JsonValue, ...]:
        return (self.low, self.high)


Distribution = Annotated[Choice | Uniform | LogUniform | Integer, Field(discriminator="kind")]


class GridSampler(FrozenConfig):
    """Every combination of the listed values, in the order of the space."""

    kind: Literal["grid"] = "grid"


class RandomSampler(FrozenConfig):
    """Independent draws from the space; the n-th one depends on the seed and n alone."""

    kind: Literal["random"] = "random"
    points: PositiveInt
    seed: int = 0


class TpeSampler(FrozenConfig):
    """Multi-objective tree-structured Parzen estimator: learns from finished points where the trade may be better."""

    kind: Literal["tpe"] = "tpe"
    points: PositiveInt
    seed: int = 0
    startup_points: PositiveInt = 8
    """Points drawn at random before the model is used."""


Sampler = Annotated[GridSampler | RandomSampler | TpeSampler, Field(discriminator="kind")]


class Objective(FrozenConfig):
    """A number to trade against the others."""

    metric: str
    """`natural_accuracy`, or the name of an attack, a dot and a metric: `gmi.attack_accuracy`."""
    goal: Literal["max", "min"]


class SearchConfig(FrozenConfig):
    """What to vary, how, with which training seeds, and what to trade."""

    sampler: Sampler = GridSampler()
    space: dict[str, Distribution] = Field(default_factory=dict)
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)] = (
        Objective(metric="natural_accuracy", goal="max"),
        Objective(metric="gmi.attack_accuracy", goal="min"),
    )
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    """Each point is trained once with each; their spread is reported apart from every interval."""
    baseline: bool = True
    """Add the point without any defense, which every trade is measured against."""

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if any(not -(2**63) <= seed < 2**63 for seed in seeds):
            raise ValueError(f"{list(seeds)} has one beyond 64 bits, which no table holds: take smaller ones")
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"{list(seeds)} repeats one: each is trained once")
        return seeds

    @model_validator(mode="after")
    def _grid_can_be_listed(self) -> SearchConfig:
        if isinstance(self.sampler, GridSampler):
            for path, distribution in self.space.items():
                if not isinstance(distribution, Choice):
                    rule = f"sampler grid needs lists of values, but this is {distribution.kind}"
                    raise AtField(f"{rule}: use kind: choice, or sampler random or tpe", "space", path)
        return self
