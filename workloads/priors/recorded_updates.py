"""Updates of a prior's networks, recorded once and repeated: a CUDA graph in place of hundreds of launches."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Mapping

import torch
from torch import Tensor

from workloads.core.cuda_graphs import STEPS_BEFORE_RECORDING, Recorder
from workloads.observation.oracles import LabelOracle

logger = logging.getLogger(__name__)

Scalars = Mapping[str, Tensor]
"""Scalars to report, by name."""
Update = Callable[[], Scalars]
"""Draws a batch, takes one step of an optimiser, and returns scalars to report. Nothing in it waits for the device."""


class RecordedUpdates:
    """Updates of several kinds, each recorded once it has been computed a few times.

    A repetition draws what a computed update would, so recording changes no number of a fit. The scalars that it
    returns lie in its own tensors: the next of its kind writes over them. An update that cannot be recorded, because a
    network or library looks at the host, is computed every time, and the log says so.
    """

    def __init__(self, recorder: Recorder, *, draws: torch.Generator, target: LabelOracle | None) -> None:
        """`draws` is what updates draw from; `target` counts queries, which a recorded update asks as well."""
        self._recorder, self._draws, self._target = recorder, draws, target
        self._seen: Counter[Hashable] = Counter()
        self._recordings: dict[Hashable, _Recording | None] = {}

    def take(self, kind: Hashable, update: Update) -> Scalars:
        """Do an update. Those of one kind run the same operations on the same tensors."""
        self._seen[kind] += 1
        with self._recorder.beside():
            if self._seen[kind] <= STEPS_BEFORE_RECORDING:
                return update()
            if kind not in self._recordings:
                self._recordings[kind] = self._record(update)
            return (self._recordings[kind] or update)()

    def _record(self, update: Update) -> _Recording | None:
        queries = self._target.queries if self._target else 0
        try:
            return _Recording(update, self._recorder, self._draws, self._target)
        except RuntimeError as error:  # whatever CUDA or a library refuses to record
            logger.warning("updates run one operation after another, as they cannot be recorded: %s", error)
            return None
        finally:
            if self._target:
                self._target.queries = queries


class _Recording:
    """A recorded update, the scalars that it writes and the queries that it asks."""

    def __init__(self, update: Update, recorder: Recorder, draws: torch.Generator, target: LabelOracle | None) -> None:
        self._target = target
        self._scalars: Scalars
        before = target.queries if target else 0
        self._repeat = recorder.record(lambda: self._keep(update()), draws=[draws])
        self._queries = target.queries - before if target else 0

    def __call__(self) -> Scalars:
        self._repeat()
        if self._target:
            self._target.queries += self._queries
        return self._scalars

    def _keep(self, scalars: Scalars) -> None:
        self._scalars = scalars
