"""What a sampler is: it gives points one after another and hears how each turned out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from orchestrator.search.space import Distribution, Params
from workloads.core.config import PickedConfig
from workloads.core.registry import Registry

MOST_POINTS = 100_000
"""More points than any search is run with."""


class SamplerConfig(PickedConfig):
    """Settings of a sampler."""

    learns: ClassVar[bool] = False
    """Whether a point depends on the results of others, and not on its index alone."""

    @property
    def limit(self) -> int | None:
        """Number of points the sampler gives; None if it follows from the space."""
        return None

    def check_space(self, space: Mapping[str, Distribution]) -> None:
        """Check that the sampler can draw from the space.

        Raises:
            AtField: if a distribution does not suit it.
        """


class Sampler(ABC):
    """Gives the points of a search. Its only state is what it was told, so telling a new one the same restores it."""

    @abstractmethod
    def ask(self, index: int) -> Params | None:
        """Choose point `index`, counted from 0; None if there are no more. Called once per index, in order."""

    def repeat(self, index: int, params: Params) -> None:  # noqa: B027 - nothing to do by default
        """Hear that point `index` was chosen in an earlier process as `params`; called instead of `ask`."""

    def tell(self, index: int, values: Sequence[float] | None) -> None:  # noqa: B027 - likewise
        """Hear the objectives of a point, averaged over its seeds; None if one of them failed."""


SAMPLERS: Registry[SamplerConfig, Sampler] = Registry("orchestrator.search.samplers")
"""All samplers by kind; each is built with `space` and `objectives`, and begins at its first point."""
