"""The loop of every attack that searches row by row, and what a subclass provides for it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any, Generic, final

import torch
from torch import Tensor

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.errors import DivergedError
from workloads.inversion.attack import Access, Attack, Oracle, Reconstructions, SearchConfig, search_protocol
from workloads.inversion.rows import Rows, place, select
from workloads.inversion.selection import Ranking, TargetScore, best_of_each

REPORT_EVERY = 25  # steps


class RowSearch(Attack[Oracle]):
    """An attack that searches each row, a restart of an identity, on its own.

    The search of a batch of rows is a `State`: tensors with one entry per row. A subclass begins it and moves it by one
    step; chunks of rows, checkpoints, progress and early ends are handled here.
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
    def advance(self, access: Access[Oracle], state: State, rows: Rows, step: int) -> tuple[State, Tensor]:
        """The search after one more step, counted from 0, and a loss per row that should fall, (B,)."""

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
        return prior.synthesize(prior.map(latents), rows.identities.to(access.device)).clamp(0, 1)

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

    def protocol(self) -> dict[str, Any]:
        """Steps, restarts, what is kept and what ranks reconstructions."""
        return search_protocol(self.config, access=self.oracle_type.access, selection=self.ranking.name)

    @torch.no_grad()
    def _rendered(self, access: Access[Oracle], latents: Tensor, rows: Rows, *, latent_steps: int) -> Reconstructions:
        def render_and_score(batch: slice) -> tuple[Tensor, Tensor]:
            images = self.render(access, latents[batch].to(access.device), rows[batch]).clamp(0, 1)
            return images.cpu(), self.ranking.scores(access.target, images, rows[batch]).cpu()

        batches = access.batches.run(render_and_score, len(rows))
        images, scores = (torch.cat(parts) for parts in zip(*batches, strict=True))
        return Reconstructions(
            images=images,
            latents=latents,
            identities=rows.identities,
            restarts=rows.restarts,
            scores=scores,
            kept=best_of_each(scores, rows.identities, keep=self.config.keep),
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
        """Rows of the current chunk that are still searched, by their index in the chunk."""
        self._state: State = {}
        self._early_stop: State = {}
        self._ended: State = {}
        """Outcomes of each chunk by its number; rows that are still searched hold zeros."""

    def search(self) -> Access[Oracle]:
        """Search all rows, continuing from the job's checkpoint. Returns the access with what `prepare` returned."""
        self._restore(self._context.resume())
        for chunk in range(self._chunk, len(self._chunks)):
            self._chunk = chunk
            if not self._state:
                self._begin(self._chunks[chunk])
            while len(self._active):
                self._advance()
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
        rows = Rows(identities, restarts, self._context.key, device=self._access.device)
        return rows, torch.cat([latents.cpu() for _, latents in collected])

    def _begin(self, rows: Rows) -> None:
        self._step, self._active = 0, torch.arange(len(rows))
        self._state = self._attack.begin(self._access, rows)
        if self._attack.config.converged:
            self._early_stop = self._attack.config.converged.begin(len(rows))

    def _advance(self) -> None:
        """Move all active rows of the chunk by one step, and end those that are done."""
        attack, rows = self._attack, self._chunks[self._chunk][self._active]
        self._state, losses = attack.advance(self._access, self._state, rows, self._step)
        settled = attack.settled(self._state)
        done = torch.zeros(len(rows), dtype=torch.bool) if settled is None else settled.cpu()
        if attack.config.converged:
            done |= attack.config.converged.watch(self._early_stop, losses, self._step)
        self._step += 1
        self.latent_steps += len(rows)
        if self._step == attack.config.steps:
            done = torch.ones_like(done)
        if self._step % REPORT_EVERY == 0 or done.all():
            self._report(losses)
        if done.any():
            self._end(done)
        self._context.checkpoint(self._snapshot)

    def _end(self, done: Tensor) -> None:
        """Keep the outcome of the rows that are done, and go on with the others."""
        outcome = select(self._attack.outcome(self._state), done.to(self._access.device))
        outcomes = self._ended.setdefault(str(self._chunk), {})
        place(outcomes, self._active[done], outcome, total=len(self._chunks[self._chunk]))
        self._active = self._active[~done]
        self._state = select(self._state, ~done.to(self._access.device))
        self._early_stop = select(self._early_stop, ~done)

    def _report(self, losses: Tensor) -> None:
        config = self._attack.config
        if not losses.isfinite().all():
            raise DivergedError(f"{config.label}: a loss became NaN or infinite by step {self._step}: lower its lr.")
        done, steps = self._chunk * config.steps + self._step, len(self._chunks) * config.steps
        self._context.report(done, steps, {"loss": losses.mean().item(), "active_rows": float(len(losses))})

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
            "watch": self._early_stop,
            "ended": self._ended,
        }

    def _restore(self, saved: State | None) -> None:
        device = self._access.device
        if saved is None:
            findings = self._attack.prepare(self._access, self._identities, context=self._context)
        else:
            findings = saved["findings"]
            self._chunk, self._step, self.latent_steps = (saved[name] for name in ("chunk", "step", "latent_steps"))
            self._active, self._early_stop, self._ended = (saved[name] for name in ("active", "watch", "ended"))
            self._state = _on(saved["state"], device)
            self._access.target.queries = saved["queries"]
        self._access = replace(self._access, findings=_on(findings, device))


def _on(state: State, device: torch.device) -> State:
    """A state with all of its tensors on `device`."""

    def move(value: Any) -> Any:
        if isinstance(value, dict):
            return _on(value, device)
        return value.to(device) if isinstance(value, Tensor) else value

    return {name: move(value) for name, value in state.items()}
