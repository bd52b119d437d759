"""Attacks that search row by row: what a subclass gives, and the run that is the same for all of them."""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import torch
from torch import Tensor

from workloads.attacks.base import Access, Attack, Oracle, Reconstructions
from workloads.attacks.engine import Engine
from workloads.attacks.rows import Rows
from workloads.attacks.selection import best_of_each
from workloads.checkpoints import State
from workloads.context import JobContext


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
        engine = Engine(self, access, identities, context)
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
