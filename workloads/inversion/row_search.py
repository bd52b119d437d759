"""The loop of every attack that searches row by row, and what a subclass provides for it."""

from __future__ import annotations

import functools
from abc import abstractmethod
from dataclasses import replace
from typing import Any, Generic, final

import torch
from torch import Tensor

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.cuda_graphs import CudaGraphs
from workloads.core.errors import DivergedError
from workloads.inversion.attack import Access, Attack, Oracle, Reconstructions, SearchConfig, search_protocol
from workloads.inversion.captured_step import CapturedStep
from workloads.inversion.row_step import RowStep
from workloads.inversion.rows import Rows, place, select
from workloads.inversion.selection import Ranking, TargetScore, best_of_each
from workloads.inversion.step import LOOK_EVERY, Move, Step

GRAPHS = "cuda"  # type of the devices on which steps are recorded


class RowSearch(Attack[Oracle]):
    """An attack that searches each row, a restart of an identity, on its own.

    The search of a batch of rows is a `State`: tensors with one entry per row. A subclass begins it and moves it by one
    step; chunks of rows, checkpoints, progress and early ends are handled here.

    A step reads nothing from the device and copies nothing to it. The host looks at the rows every `LOOK_EVERY` steps.
    """

    config: SearchConfig

    @property
    def ranking(self) -> Ranking:
        """How the attacker ranks the reconstructions of an identity; by the target model's score by default."""
        return TargetScore()

    @abstractmethod
    def begin(self, access: Access[Oracle], rows: Rows) -> State:
        """The search before its first step."""

    @abstractmethod
    def move(self, access: Access[Oracle], state: State, rows: Rows, step: Step) -> tuple[State, Tensor]:
        """The search after one more step, and a loss per row that should fall, (B,).

        The tensors of the new search are new ones, or those of the old search under the same name, which it may write
        into. On GPUs a step is recorded and repeated, so it may not depend on Python numbers: see `Step`.
        """

    def rates(self, step: int) -> tuple[float, ...]:
        """What the host computes from the number of a step, counted from 0, for `Step.rates`; nothing by default."""
        return ()

    def phase(self, step: int) -> int:
        """What kind of step this is: steps of one kind run the same operations. All are alike by default."""
        return 0

    def capturable(self, access: Access[Oracle]) -> bool:
        """Whether a step runs on the device alone, as far as the attack knows."""
        return True

    def prepare_step(self, access: Access[Oracle], state: State, rows: Rows, step: int) -> State:
        """The search ahead of a step, where more than the step is due; unchanged by default."""
        return state

    def finish_step(self, access: Access[Oracle], state: State, rows: Rows, step: int) -> State:
        """The search after a step, where more than the step is due; unchanged by default."""
        return state

    @final
    def advance(self, access: Access[Oracle], state: State, rows: Rows, step: int) -> tuple[State, Tensor]:
        """The search after one more step by its number, and a loss per row, with all that is due before and after."""
        state = self.prepare_step(access, state, rows, step)
        state, losses = self.move(access, state, rows, self.step_at(step, device=access.device))
        return self.finish_step(access, state, rows, step), losses

    @final
    def step_at(self, step: int, *, device: torch.device) -> Step:
        """A step by its number, for `move`."""
        return Step.at(step, rates=self.rates(step), phase=self.phase(step), device=device)

    @final
    def begin_rows(self, access: Access[Oracle], rows: Rows) -> State:
        """The state of `fastest_step` before its first step."""
        return self._row_step(access).begin(self.begin(access, rows), rows)

    @final
    def fastest_step(self, access: Access[Oracle]) -> Move:
        """A step of rows of which some may be done, without what is due before and after; recorded where it can be."""
        step = self._row_step(access)
        if access.device.type == GRAPHS and self.capturable(access):
            return CapturedStep(step, access.target, CudaGraphs(access.device))
        return step

    def _row_step(self, access: Access[Oracle]) -> RowStep:
        return RowStep(functools.partial(self.move, access), self.settled, self.config.converged)

    @abstractmethod
    def latents(self, access: Access[Oracle], state: State, rows: Rows) -> tuple[Rows, Tensor]:
        """What ended searches found: one latent per image to render, and the row each belongs to."""

    def prepare(self, access: Access[Oracle], identities: Tensor, *, context: JobContext) -> State:
        """Tensors needed before the first row is searched; `Access.findings` holds them from then on."""
        return {}

    def outcome(self, state: State) -> State:
        """The part of an ended search that `latents` needs."""
        return state

    def settled(self, state: State) -> Tensor | None:
        """Rows that are done before the last step, (B,) bool; None if only the number of steps ends a search."""
        return None

    def render(self, access: Access[Oracle], latents: Tensor, rows: Rows) -> Tensor:
        """Images of latents. Shape: (B, ...) to (B, C, H, W) in [0, 1], on the device."""
        prior = access.required_prior
        return prior.synthesize(prior.map(latents), rows.identities).clamp(0, 1)

    @final
    def run(self, access: Access[Oracle], identities: Tensor, *, context: JobContext) -> Reconstructions:
        """Attack each of `identities`, (I,) int64 class indices, `restarts` times.

        Continues from the job's checkpoint. The result of a row does not depend on which rows share its chunk, up to
        float rounding.
        """
        loop = _SearchLoop(self, access, identities, context)
        access = loop.search()
        rows, latents = loop.collect()
        return self._rendered(access, latents, rows, latent_steps=loop.latent_steps)

    def planned_queries(self, identities: int) -> int:
        """The final images, which the target model ranks."""
        return identities * self.config.candidates_per_identity

    def protocol(self) -> dict[str, Any]:
        """Steps, restarts, what is kept and what ranks reconstructions."""
        return search_protocol(self.config, access=self.oracle_type.access, selection=self.ranking.name)

    @torch.no_grad()
    def _rendered(self, access: Access[Oracle], latents: Tensor, rows: Rows, *, latent_steps: int) -> Reconstructions:
        def render_and_score(batch: slice) -> tuple[Tensor, Tensor]:
            images = self.render(access, latents[batch], rows[batch]).clamp(0, 1)
            return images.cpu(), self.ranking.scores(access.target, images, rows[batch]).cpu()

        batches = access.batches.run(render_and_score, len(rows))
        images, scores = (torch.cat(parts) for parts in zip(*batches, strict=True))
        return Reconstructions(
            images=images,
            latents=latents.cpu(),
            identities=(identities := rows.identities.cpu()),
            restarts=rows.restarts.cpu(),
            scores=scores,
            kept=best_of_each(scores, identities, keep=self.config.keep),
            queries=access.target.queries,
            latent_steps=latent_steps,
        )


class _SearchLoop(Generic[Oracle]):
    """A search under way: everything that a checkpoint has to hold."""

    def __init__(
        self, attack: RowSearch[Oracle], access: Access[Oracle], identities: Tensor, context: JobContext
    ) -> None:
        self._attack, self._access, self._identities, self._context = attack, access, identities, context
        rows = Rows.of(identities, attack.config.restarts, key=context.key, device=access.device)
        self._chunks = rows.split(attack.config.chunk_rows)
        self._chunk = self._step = 0
        self.latent_steps = 0
        self._active = torch.arange(0)
        """Rows of the current chunk that are still searched, by their index in the chunk; on the CPU."""
        self._rows = rows[:0]
        """These rows."""
        self._state: State = {}
        """What `RowStep` keeps of them."""
        self._queries_per_row = 0
        """Queries of the last step."""
        self._ended: State = {}
        """Outcomes of each chunk by its number; rows that are still searched hold zeros."""

    def search(self) -> Access[Oracle]:
        """Search all rows, continuing from the job's checkpoint. Returns the access with what `prepare` returned."""
        self._restore(self._context.resume())
        move = self._attack.fastest_step(self._access)
        for chunk in range(self._chunk, len(self._chunks)):
            self._chunk = chunk
            if not self._state:
                self._begin(self._chunks[chunk])
            while len(self._active):
                self._advance(move)
            self._state = {}
        return self._access

    def collect(self) -> tuple[Rows, Tensor]:
        """The latents of every row, in the order of the rows."""
        collected = []
        with torch.no_grad():
            for number, rows in enumerate(self._chunks):
                outcome = _on(self._ended[str(number)], self._access.device)
                collected.append(self._attack.latents(self._access, outcome, rows))
        identities = torch.cat([rows.identities for rows, _ in collected])
        restarts = torch.cat([rows.restarts for rows, _ in collected])
        return Rows(identities, restarts, self._context.key), torch.cat([latents for _, latents in collected])

    def _begin(self, rows: Rows) -> None:
        self._step, self._active, self._rows = 0, torch.arange(len(rows)), rows
        self._state = self._attack.begin_rows(self._access, rows)

    def _advance(self, move: Move) -> None:
        """Move all active rows of the chunk by one step, and look at them now and then."""
        attack, access, rows, queries = self._attack, self._access, self._rows, self._access.target.queries
        search = attack.prepare_step(access, self._state["search"], rows, self._step)
        step = attack.step_at(self._step, device=access.device)
        self._state, losses = move({**self._state, "search": search}, rows, step)
        self._queries_per_row = (access.target.queries - queries) // len(rows)
        search = attack.finish_step(access, self._state["search"], rows, self._step)
        self._state = {**self._state, "search": search}
        self._step += 1
        if self._step % LOOK_EVERY == 0 or self._step == attack.config.steps:
            self._look(losses)
        self._context.checkpoint(self._snapshot)

    def _look(self, losses: Tensor) -> None:
        """Read how the rows stand, report it, and end those that are done."""
        ended, broken, mean = self._state["ended"].cpu(), (~losses.isfinite()).sum().item(), losses.mean().item()
        config = self._attack.config
        if broken:
            raise DivergedError(f"{config.label}: a loss became NaN or infinite by step {self._step}: lower its lr.")
        done, steps = self._chunk * config.steps + self._step, len(self._chunks) * config.steps
        self._context.report(done, steps, {"loss": mean, "active_rows": float(len(losses))})
        if self._step == config.steps:
            ended = torch.where(ended == 0, self._step, ended)
        if (ended > 0).any():
            self._end(ended)

    def _end(self, ended: Tensor) -> None:
        """Keep the outcome of the rows that are done, with the steps and queries they took, and go on with the others.

        Shape: (B,) int64, the step after which each row was done, 0 for those under way; on the CPU.
        """
        done = (ended > 0).nonzero().flatten()
        steps = int(ended.sum())
        self.latent_steps += steps
        # From then on the target model was asked in vain: nothing that it said of these rows was used.
        self._access.target.queries -= self._queries_per_row * (self._step * len(done) - steps)
        here, others = done.to(self._access.device), (ended == 0).nonzero().flatten()
        outcome = select(self._attack.outcome(self._state["search"]), here)
        outcomes = self._ended.setdefault(str(self._chunk), {})
        place(outcomes, self._active[done], outcome, total=len(self._chunks[self._chunk]))
        self._keep(others)

    def _keep(self, others: Tensor) -> None:
        """Go on with some of the active rows alone, by their index among them, on the CPU."""
        here = others.to(self._access.device)
        self._active, self._rows, self._state = self._active[others], self._rows[here], select(self._state, here)

    def _snapshot(self) -> State:
        counts = {"chunk": self._chunk, "step": self._step, "latent_steps": self.latent_steps}
        if not len(self._active):
            counts |= {"chunk": self._chunk + 1}
        return {
            **counts,
            "queries": self._access.target.queries,
            "findings": self._access.findings,
            "active": self._active,
            "state": self._state if len(self._active) else {},
            "ended": self._ended,
        }

    def _restore(self, saved: State | None) -> None:
        device = self._access.device
        if saved is None:
            findings = self._attack.prepare(self._access, self._identities, context=self._context)
        else:
            findings = saved["findings"]
            self._chunk, self._step, self.latent_steps = (saved[name] for name in ("chunk", "step", "latent_steps"))
            self._active, self._ended = saved["active"], saved["ended"]
            self._state = _on(saved["state"], device)
            self._access.target.queries = saved["queries"]
            if len(self._active):
                self._rows = self._chunks[self._chunk][self._active.to(device)]
        self._access = replace(self._access, findings=_on(findings, device))


def _on(state: State, device: torch.device) -> State:
    """A state with all of its tensors on `device`."""

    def move(value: Any) -> Any:
        if isinstance(value, dict):
            return _on(value, device)
        return value.to(device) if isinstance(value, Tensor) else value

    return {name: move(value) for name, value in state.items()}
