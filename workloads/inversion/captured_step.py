"""Steps of a search recorded once and repeated: a CUDA graph in place of hundreds of launches.

With few rows a GPU waits for the host, which launches one operation after another. A graph launches all of a step at
once. It repeats the same operations on the same memory, so state, rows and step lie in fixed tensors that are written
before each repetition.
"""

from __future__ import annotations

import logging
from typing import Any

from torch import Tensor

from workloads.core.checkpoints import State
from workloads.core.cuda_graphs import STEPS_BEFORE_RECORDING, Recorder
from workloads.inversion.rows import Rows, copied, overwrite
from workloads.inversion.step import Move, Step
from workloads.observation.oracles import LabelOracle

logger = logging.getLogger(__name__)


class CapturedStep:
    """A step that is recorded once it has run a few times on tensors of the same shapes.

    The state that it returns lies in its own tensors: the next call writes over them. Where a step cannot be recorded,
    for example because a network reads a number, the log says so, and all steps run one operation after another.
    """

    def __init__(self, move: Move, target: LabelOracle, recorder: Recorder) -> None:
        """`target` counts queries, which a recorded step asks as well."""
        self._move, self._target, self._recorder = move, target, recorder
        self._can_record = True
        self._shapes: Any = None
        self._seen = 0
        """Steps of these shapes so far."""
        self._recorded: _RecordedStep | None = None

    def __call__(self, state: State, rows: Rows, step: Step) -> tuple[State, Tensor]:
        """Take a step, recorded if it can be."""
        shapes = (step.phase, _shapes_of(state))
        if shapes != self._shapes:
            self._shapes, self._seen, self._recorded = shapes, 0, None
        self._seen += 1
        if self._recorded is None and self._can_record and self._seen > STEPS_BEFORE_RECORDING:
            self._record(state, rows, step)
        return (self._recorded or self._move)(state, rows, step)

    def _record(self, state: State, rows: Rows, step: Step) -> None:
        queries = self._target.queries
        try:
            self._recorded = _RecordedStep(self._move, self._target, self._recorder, state, rows, step)
        except RuntimeError as error:  # whatever CUDA or a library refuses to record
            logger.warning("steps run one operation after another, as they cannot be recorded: %s", error)
            self._can_record = False
        self._target.queries = queries


class _RecordedStep:
    """A recorded step with the tensors that it reads and writes."""

    def __init__(
        self, move: Move, target: LabelOracle, recorder: Recorder, state: State, rows: Rows, step: Step
    ) -> None:
        self._target = target
        self._state = copied(state)
        self._rows = Rows(rows.identities.clone(), rows.restarts.clone(), rows.key)
        self._step = Step(step.counter.clone(), tuple(rate.clone() for rate in step.rates), step.phase)
        self._written = rows
        """The rows whose numbers stand in `_rows`."""
        before = target.queries
        self._replay = recorder.record(lambda: self._take(move))
        self._queries = target.queries - before

    def __call__(self, state: State, rows: Rows, step: Step) -> tuple[State, Tensor]:
        if state is not self._state:
            overwrite(self._state, state)
        if rows is not self._written:
            self._rows.identities.copy_(rows.identities)
            self._rows.restarts.copy_(rows.restarts)
            self._written = rows
        for fixed, number in zip((self._step.counter, *self._step.rates), (step.counter, *step.rates), strict=True):
            fixed.copy_(number)
        self._replay()
        self._target.queries += self._queries
        return self._state, self._losses

    def _take(self, move: Move) -> None:
        """The work that is recorded: a step, and its result written over the state."""
        moved, self._losses = move(self._state, self._rows, self._step)
        overwrite(self._state, moved)


def _shapes_of(state: State) -> Any:
    """Shapes and types of all tensors of a state, by name."""
    return {
        name: _shapes_of(value) if isinstance(value, dict) else (value.shape, value.dtype)
        for name, value in state.items()
    }
