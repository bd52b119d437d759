"""Attacks that search row by row: what a subclass gives, and the loop that is the same for all of them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.errors import DivergedError
from workloads.inversion.attack import Access, Attack, Oracle, Reconstructions
from workloads.inversion.rows import Rows, place, select
from workloads.inversion.selection import best_of_each

REPORT_EVERY = 25  # steps


class SearchAttack(Attack[Oracle]):
    """A search for each row, (identity, restart), as a `State`: tensors with one entry a row.

    A subclass begins it and moves it by a step; chunks of rows, checkpoints, progress and early ends are the same for
    all.
    """

    @abstractmethod
    def begin(self, access: Access[Oracle], rows: Rows) -> State:
        """The search before its first step."""

    @abstractmethod
    def advance(self, access: Access[Oracle], state: State, rows: Rows, step: int) -> tuple[State, Tensor]:
        """The search after one more step, counted from 0, and a figure for each row that should fall, (B,)."""

    @abstractmethod
    def latents(self, access: Access[Oracle], state: State, rows: Rows) -> tuple[Rows, Tensor]:
        """What ended searches came to: a latent for each image to render, with the row it belongs to."""

    def prepare(self, access: Access[Oracle], identities: Tensor, *, context: JobContext) -> State:
        """What has to be known before the first row is searched, as plain tensors; `Access.findings` holds it then."""
        return {}

    def outcome(self, state: State) -> State:
        """The part of an ended search that `latents` needs."""
        return state

    def settled(self, state: State) -> Tensor | None:
        """Rows that are done before the last step, (B,) bool; None where only the number of steps ends a search."""
        return None

    def render(self, access: Access[Oracle], latents: Tensor, rows: Rows) -> Tensor:
        """Images of latents. Shape: (B, ...) to (B, C, H, W) in [0, 1], on the device."""
        prior = access.generator
        return prior.synthesize(prior.map(latents), rows.identities.to(access.device)).clamp(0, 1)

    def scores(self, access: Access[Oracle], images: Tensor, rows: Rows) -> Tensor:
        """How the attacker ranks the images of an identity, by the target model alone. Shape: (B, C, H, W) to (B,)."""
        return access.target.score(images, rows.identities.to(access.device))

    def choose(self, scores: Tensor, identities: Tensor) -> Tensor:
        """Which reconstructions to keep. Shape: (R,), (R,) to (R,) bool."""
        return best_of_each(scores, identities, keep=self.config.keep)

    @final
    def run(self, access: Access[Oracle], identities: Tensor, *, context: JobContext) -> Reconstructions:
        """Attack each of `identities`, (I,) int64 class indices, `restarts` times.

        Continues from the job's checkpoint. A row's result does not depend on which rows share its chunk, up to float
        rounding.
        """
        engine = _Engine(self, access, identities, context)
        access = engine.search()
        rows, latents = engine.collect()
        return self._rendered(access, latents, rows, latent_steps=engine.latent_steps)

    @torch.no_grad()
    def _rendered(self, access: Access[Oracle], latents: Tensor, rows: Rows, *, latent_steps: int) -> Reconstructions:
        def shown(part: slice) -> tuple[Tensor, Tensor]:
            images = self.render(access, latents[part].to(access.device), rows[part]).clamp(0, 1)
            return images.cpu(), self.scores(access, images, rows[part]).cpu()

        images, scores = (torch.cat(own) for own in zip(*access.parts.run(shown, len(rows)), strict=True))
        return Reconstructions(
            images=images,
            latents=latents,
            identities=rows.identities,
            restarts=rows.restarts,
            scores=scores,
            kept=self.choose(scores, rows.identities),
            queries=access.target.queries,
            latent_steps=latent_steps,
        )


class _Engine:
    """An attack under way: everything a checkpoint has to hold."""

    def __init__(self, attack: SearchAttack[Any], access: Access[Any], identities: Tensor, context: JobContext) -> None:
        self._attack, self._access, self._identities, self._context = attack, access, identities, context
        rows = Rows.of(identities, attack.config.restarts, key=context.key)
        self._chunks = rows.split(attack.config.chunk_rows)
        self._chunk = self._step = 0
        self.latent_steps = 0
        self._active = torch.arange(0)
        self._state: State = {}
        self._watch: State = {}
        self._ended: State = {}
        """Outcomes of each chunk by its number; those of rows still under way are zeros."""

    def search(self) -> Access[Any]:
        """Search all rows, continuing from the job's checkpoint; the access with what `prepare` found."""
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
        """Every row's latents, in the order of the rows."""
        found = []
        with torch.no_grad():
            for number, rows in enumerate(self._chunks):
                outcome = _on(self._ended[str(number)], self._access.device)
                found.append(self._attack.latents(self._access, outcome, rows))
        identities = torch.cat([rows.identities for rows, _ in found])
        restarts = torch.cat([rows.restarts for rows, _ in found])
        return Rows(identities, restarts, self._context.key), torch.cat([own.cpu() for _, own in found])

    def _begin(self, rows: Rows) -> None:
        self._step, self._active = 0, torch.arange(len(rows))
        self._state = self._attack.begin(self._access, rows)
        if self._attack.config.converged:
            self._watch = self._attack.config.converged.begin(len(rows))

    def _advance(self) -> None:
        """One step of all active rows of the chunk; those that are done leave."""
        attack, rows = self._attack, self._chunks[self._chunk][self._active]
        self._state, losses = attack.advance(self._access, self._state, rows, self._step)
        done = attack.settled(self._state)
        done = torch.zeros(len(rows), dtype=torch.bool) if done is None else done.cpu()
        if attack.config.converged:
            done |= attack.config.converged.watch(self._watch, losses, self._step)
        self._step += 1
        self.latent_steps += len(rows)
        if self._step == attack.config.steps:
            done = torch.ones_like(done)
        if self._step % REPORT_EVERY == 0 or done.all():
            self._report(losses)
        if done.any():
            self._retire(done)
        self._context.checkpoint(self._snapshot)

    def _retire(self, done: Tensor) -> None:
        """Keep what the rows that are done came to, and go on with the others alone."""
        outcome = select(self._attack.outcome(self._state), done.to(self._access.device))
        whole = self._ended.setdefault(str(self._chunk), {})
        place(whole, self._active[done], outcome, of=len(self._chunks[self._chunk]))
        self._active = self._active[~done]
        self._state = select(self._state, ~done.to(self._access.device))
        self._watch = select(self._watch, ~done)

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
            "watch": self._watch,
            "ended": self._ended,
        }

    def _restore(self, saved: State | None) -> None:
        device = self._access.device
        if saved is None:
            findings = self._attack.prepare(self._access, self._identities, context=self._context)
        else:
            findings = saved["findings"]
            self._chunk, self._step, self.latent_steps = (saved[name] for name in ("chunk", "step", "latent_steps"))
            self._active, self._watch, self._ended = (saved[name] for name in ("active", "watch", "ended"))
            self._state = _on(saved["state"], device)
            self._access.target.queries = saved["queries"]
        self._access = replace(self._access, findings=_on(findings, device))


def _on(state: State, device: torch.device) -> State:
    return {
        name: _on(own, device) if isinstance(own, dict) else own.to(device) if isinstance(own, Tensor) else own
        for name, own in state.items()
    }
