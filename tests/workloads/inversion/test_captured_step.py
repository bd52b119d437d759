"""Steps that are recorded once and repeated give the bits of steps taken one operation after another."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from tests.support.interruptions import context_at
from tests.support.lenses import CountingLens
from tests.support.searches import CLASSES, SEARCHES, Search, access_of
from tests.support.tape import Tape
from workloads.attacks.ifgmi import IfgmiConfig
from workloads.attacks.rlbmi import RlbmiConfig
from workloads.core.checkpoints import State
from workloads.core.cuda_graphs import STEPS_BEFORE_RECORDING, CudaGraphs, Recorder, Work
from workloads.core.numerics import deterministic
from workloads.inversion import captured_step, row_search
from workloads.inversion.attack import Reconstructions
from workloads.inversion.captured_step import CapturedStep
from workloads.inversion.rows import Rows, copied
from workloads.inversion.step import Move, Step
from workloads.inversion.wrapped_attack import WrappedAttackConfig
from workloads.observation.oracles import LabelOracle
from workloads.observation.views import View

CPU = torch.device("cpu")
STEPS = STEPS_BEFORE_RECORDING + 3
FEW = 1  # steps before a search is recorded here


class CountingTape(Tape):
    """Counts recordings and repetitions."""

    def __init__(self) -> None:
        self.recorded = self.repeated = 0

    def record(self, work: Any, *, draws: Any = ()) -> Any:
        self.recorded += 1
        repeat = super().record(work, draws=draws)

        def counted() -> None:
            self.repeated += 1
            repeat()

        return counted


def longer(search: Search) -> Search:
    """The search with steps enough to be recorded in each of its phases."""
    phase, config = FEW + 2, search.config
    steps: dict[str, Any] = {"steps": 2 * phase}
    if isinstance(config, IfgmiConfig):
        steps = {"stage_steps": (phase, phase)}
    elif isinstance(config, RlbmiConfig):
        steps |= {"batch": phase, "buffer": phase + 2}
    elif isinstance(config, WrappedAttackConfig):
        steps = {"host": config.host.model_copy(update=steps)}
    return Search(config.model_copy(update=steps), search.prior)


@contextmanager
def on_tape(tape: Tape) -> Iterator[None]:
    """Have searches on the CPU recorded on a tape, as those on a GPU are in graphs."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(row_search, "CudaGraphs", lambda device: tape))
        stack.enter_context(patch.object(row_search, "GRAPHS", "cpu"))
        stack.enter_context(patch.object(captured_step, "STEPS_BEFORE_RECORDING", FEW))
        yield


def attacked(search: Search, folder: Path) -> Reconstructions:
    return search.attack.run(access_of(search, CPU), torch.arange(CLASSES), context=context_at(folder))


@pytest.mark.parametrize("name", [name for name in SEARCHES if name != "erasing_aware by blur"])
def test_a_recorded_search_has_the_bits_of_one_that_is_not(tmp_path: Path, name: str) -> None:
    search, tape = longer(SEARCHES[name]), CountingTape()
    eager = attacked(search, tmp_path / "eager")
    with on_tape(tape):
        recorded = attacked(search, tmp_path / "recorded")
    assert tape.repeated >= 2
    for tensor in ("latents", "images", "scores"):
        assert torch.equal(getattr(recorded, tensor), getattr(eager, tensor)), tensor
    assert (recorded.queries, recorded.latent_steps) == (eager.queries, eager.latent_steps)


class Reading(CountingLens):
    """A lens that says that it reads."""

    @property
    def capturable(self) -> bool:
        return False


@pytest.mark.parametrize(("lenses", "recordings"), [((CountingLens(),), 1), ((CountingLens(), Reading()), 0)])
def test_a_lens_that_reads_is_not_recorded(tmp_path: Path, lenses: tuple[View, ...], recordings: int) -> None:
    tape, search = CountingTape(), longer(SEARCHES["gmi"])
    with on_tape(tape):
        access = replace(access_of(search, CPU), lenses=lenses)
        search.attack.run(access, torch.arange(CLASSES), context=context_at(tmp_path))
    assert tape.recorded == recordings


# A step whose every number can be worked out by hand.


def doubling(state: State, rows: Rows, step: Step) -> tuple[State, Tensor]:
    """Twice the number, plus the row's identity, plus the number of the step, plus its rate."""
    number = 2 * state["number"] + rows.identities + step.counter + step.rates[0]
    return {"number": number.float()}, state["number"]


def reading(state: State, rows: Rows, step: Step) -> tuple[State, Tensor]:
    """The same, but it reads a number on the way."""
    state["number"].sum().item()
    return doubling(state, rows, step)


def taken(move: Move, steps: int, *, rows: Rows, state: State) -> State:
    for number in range(steps):
        state, _ = move(state, rows, Step.at(number, rates=(number / 4,), device=CPU))
    return copied(state)


def rows_of(*identities: int) -> Rows:
    return Rows.of(torch.tensor(identities), 1, key="test")


def captured(move: Move, recorder: Recorder, target: LabelOracle | None = None) -> CapturedStep:
    return CapturedStep(move, target or LabelOracle(lambda images: images), recorder)


def test_a_step_is_recorded_once_and_repeated() -> None:
    tape, state = CountingTape(), {"number": torch.tensor([1.0, 2.0])}
    moved = taken(captured(doubling, tape), STEPS, rows=rows_of(0, 5), state=state)
    assert torch.equal(moved["number"], taken(doubling, STEPS, rows=rows_of(0, 5), state=state)["number"])
    assert (tape.recorded, tape.repeated) == (1, STEPS - STEPS_BEFORE_RECORDING)


def test_other_rows_with_another_state_are_moved_by_the_same_recording() -> None:
    tape = CountingTape()
    step = captured(doubling, tape)
    taken(step, STEPS, rows=rows_of(0, 5), state={"number": torch.tensor([1.0, 2.0])})
    state = {"number": torch.tensor([7.0, 8.0])}
    moved = taken(step, STEPS, rows=rows_of(3, 1), state=state)
    assert torch.equal(moved["number"], taken(doubling, STEPS, rows=rows_of(3, 1), state=state)["number"])
    assert tape.recorded == 1


def test_fewer_rows_are_recorded_anew() -> None:
    tape = CountingTape()
    step = captured(doubling, tape)
    taken(step, STEPS, rows=rows_of(0, 5), state={"number": torch.tensor([1.0, 2.0])})
    moved = taken(step, STEPS, rows=rows_of(5), state={"number": torch.tensor([2.0])})
    assert torch.equal(
        moved["number"], taken(doubling, STEPS, rows=rows_of(5), state={"number": torch.tensor([2.0])})["number"]
    )
    assert tape.recorded == 2


def test_a_number_of_python_that_changes_would_be_caught() -> None:
    """What the tests above rest on: a tape repeats what it was given, as a graph does."""
    calls = itertools.count()

    def counting(state: State, rows: Rows, step: Step) -> tuple[State, Tensor]:
        return {"number": state["number"] + next(calls)}, state["number"]

    moved = taken(captured(counting, Tape()), STEPS, rows=rows_of(0), state={"number": torch.zeros(1)})
    assert moved["number"].item() == sum(range(STEPS_BEFORE_RECORDING)) + STEPS_BEFORE_RECORDING * (
        STEPS - STEPS_BEFORE_RECORDING
    )


def test_a_step_that_cannot_be_recorded_is_taken_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    tape, state = CountingTape(), {"number": torch.tensor([1.0])}
    with caplog.at_level(logging.WARNING):
        moved = taken(captured(reading, tape), 2 * STEPS, rows=rows_of(2), state=state)
    assert torch.equal(moved["number"], taken(doubling, 2 * STEPS, rows=rows_of(2), state=state)["number"])
    assert (tape.recorded, tape.repeated) == (1, 0)
    assert [record.message for record in caplog.records] == [
        "steps run one operation after another, as they cannot be recorded: aten._local_scalar_dense.default cannot be "
        "recorded"
    ]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", [name for name in SEARCHES if name != "erasing_aware by blur"])
def test_a_graph_gives_the_bits_of_operations_one_after_another(tmp_path: Path, name: str) -> None:
    search, cuda = longer(SEARCHES[name]), torch.device("cuda")
    replays = 0

    class CountingGraphs(CudaGraphs):
        def record(self, work: Work, *, draws: Sequence[torch.Generator] = ()) -> Work:
            replay = super().record(work, draws=draws)

            def counted() -> None:
                nonlocal replays
                replays += 1
                replay()

            return counted

    def run(folder: str, graphs: str) -> Reconstructions:
        with ExitStack() as stack:
            stack.enter_context(patch.object(row_search, "CudaGraphs", CountingGraphs))
            stack.enter_context(patch.object(row_search, "GRAPHS", graphs))
            stack.enter_context(patch.object(captured_step, "STEPS_BEFORE_RECORDING", FEW))
            stack.enter_context(deterministic(cuda))
            context = context_at(tmp_path / folder)
            context.device = cuda
            return search.attack.run(access_of(search, cuda), torch.arange(CLASSES), context=context)

    eager, recorded = run("eager", "nowhere"), run("recorded", "cuda")
    assert replays >= 2
    assert torch.equal(recorded.latents, eager.latents)
    assert (recorded.queries, recorded.latent_steps) == (eager.queries, eager.latent_steps)
