"""What a sampler is: it gives points one after another and hears how each turned out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from orchestrator.spec.search_space import Params


class Sampler(ABC):
    """Gives the points of a search. Its state is what it was told: telling a new one the same rebuilds it."""

    learns: ClassVar[bool] = False
    """Whether a point depends on how others turned out, and not on its index alone."""

    @abstractmethod
    def ask(self, index: int) -> Params | None:
        """The `index`-th point, counted from 0; None where there are no more. Called once for each, in order."""

    def repeat(self, index: int, params: Params) -> None:  # noqa: B027 - nothing to do by default
        """The `index`-th point was asked in an earlier life and was `params`; called instead of `ask`."""

    def tell(self, index: int, values: Sequence[float] | None) -> None:  # noqa: B027 - likewise
        """Objectives of a point at full fidelity, averaged over its seeds; None where any of them failed."""
