"""The two searches of MIRROR, by gradients and by breeding: in a box of styles, from the best of a large pool."""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from workloads.attacks.base import Access, Oracle
from workloads.attacks.genetics import TINY, Draws, crossed, fittest_first, mutated
from workloads.attacks.gradient import WhiteBoxAttack
from workloads.attacks.p_space import PSpace, in_box
from workloads.attacks.pool import best_starts, draw_pool, explore, start_of
from workloads.attacks.rows import Rows
from workloads.attacks.search import Adam, Variables
from workloads.attacks.searching import SearchAttack
from workloads.checkpoints import State
from workloads.context import JobContext
from workloads.objectives import cross_entropy
from workloads.oracles import LabelOracle, ScoreOracle, WhiteBoxOracle
from workloads.priors.base import Prior
from workloads.priors.staged import StagedPrior
from workloads.views import RandomView, View, ViewConfig

if TYPE_CHECKING:
    from workloads.attacks.mirror import MirrorConfig


class MirrorSearch(SearchAttack[Oracle], ABC):
    """What both have in common: how a style becomes an image, the pool, and the box."""

    config: MirrorConfig

    def prepare(self, access: Access[Oracle], identities: Tensor, *, context: JobContext) -> State:
        target = access.target
        assert isinstance(target, ScoreOracle)

        def look(latents: Tensor) -> tuple[Tensor, Tensor]:
            styles = access.generator.map(latents)
            return styles, target.probabilities(self._shown(access.generator, styles))

        styles, probabilities = explore(access, draw_pool(self.config, access.generator, context=context), look)
        box = PSpace.of(access.generator).box(styles, deviations=self.config.box_deviations)
        return box | best_starts(styles, probabilities, identities, count=self.config.starts)

    def render(self, access: Access[Oracle], latents: Tensor, rows: Rows) -> Tensor:
        return self._shown(access.generator, latents)

    def _shown(self, prior: Prior, latents: Tensor) -> Tensor:
        """Images of styles as they come, which are truncated on the way."""
        if not isinstance(prior, StagedPrior):
            return prior.synthesize(latents).clamp(0, 1)
        styles = prior.pulled(prior.repeated(latents), truncation=self.config.truncation, cutoff=self.config.cutoff)
        return prior.shown(prior.run_blocks(styles)[1]).clamp(0, 1)


class GradientMirror(MirrorSearch[WhiteBoxOracle], WhiteBoxAttack):
    """Cross-entropy by Adam with a learning rate that rises and falls; the best step of each row counts."""

    config: MirrorConfig

    @property
    def rule(self) -> Adam:
        return Adam(self.config.lr, schedule=self._ramps)

    @property
    def identity_weight(self) -> float:
        return self.config.identity_weight

    @property
    def batch_reference(self) -> int:
        return self.config.batch_reference

    def start(self, access: Access[WhiteBoxOracle], rows: Rows) -> Variables:
        return {"latents": start_of(access.findings, rows)}

    def views(self, access: Access[WhiteBoxOracle]) -> Sequence[View]:
        view = ViewConfig(flip=self.config.flip)
        official = self.config.fidelity == "official"
        return (RandomView(view.model_copy(update={"draws": "per_batch"}) if official else view),)

    def identity_losses(self, access: Access[WhiteBoxOracle], images: Tensor, identities: Tensor) -> Tensor:
        return cross_entropy(access.target.logits(images), identities)

    def constrain(self, access: Access[WhiteBoxOracle], variables: Variables, kept: State) -> Variables:
        return {"latents": in_box(variables["latents"], access.findings)}

    def remember(self, kept: State, variables: Variables, losses: Tensor | None, step: int) -> State:
        """The latents of the smallest loss so far, and those the next loss will belong to."""
        latents = variables["latents"].clone()
        if losses is None:
            return {"best": latents, "loss": latents.new_full((len(latents),), torch.inf), "measured": latents.clone()}
        official = self.config.fidelity == "official"
        compared, candidates = (losses.mean().expand_as(losses), latents) if official else (losses, kept["measured"])
        better = compared < kept["loss"]
        return {
            "best": torch.where(better[:, None], candidates, kept["best"]),
            "loss": torch.where(better, compared, kept["loss"]),
            "measured": latents,
        }

    def outcome(self, state: State) -> State:
        return {"variables": {"latents": state["kept"]["best"]}}

    def _ramps(self, step: int) -> float:
        done = (step + 1) / self.config.steps
        down = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - done) / self.config.ramp_down))
        return down * min(1.0, done / self.config.ramp_up)


class GeneticMirror(MirrorSearch[ScoreOracle]):
    """Populations bred by the probability of their identity; each row is one."""

    oracle: ClassVar[type[LabelOracle]] = ScoreOracle

    def begin(self, access: Access[ScoreOracle], rows: Rows) -> State:
        findings = access.findings
        candidates = findings["candidates"][rows.identities]
        return {"population": findings["starts"][candidates], "fitness": findings["confidences"][rows.identities]}

    def advance(self, access: Access[ScoreOracle], state: State, rows: Rows, step: int) -> tuple[State, Tensor]:
        children = self._children(access, state, rows, step)
        population = torch.cat((state["population"][:, :1], children), 1)
        fitness = torch.cat((state["fitness"][:, :1], self._fitness(access, children, rows)), 1)
        population, fitness = fittest_first(population, fitness)
        return {"population": population, "fitness": fitness}, -(fitness[:, 0] + TINY).log()

    def settled(self, state: State) -> Tensor:
        return state["fitness"][:, 0] >= self.config.stop_at

    def outcome(self, state: State) -> State:
        return {"elite": state["population"][:, 0]}

    def latents(self, access: Access[ScoreOracle], state: State, rows: Rows) -> tuple[Rows, Tensor]:
        return rows, state["elite"]

    def _children(self, access: Access[ScoreOracle], state: State, rows: Rows, step: int) -> Tensor:
        """Shape: (B, population - 1, S)."""
        population, official = state["population"], self.config.fidelity == "official"
        draws = self._draws(rows, step, like=population)
        young = crossed(population, state["fitness"], draws, worse_first=official)
        space, reach = PSpace.of(access.generator), self.config.mutation_scale * access.findings["spread"]
        moved = mutated(space.to(young), draws, probability=self.config.mutation_probability, reach=reach)
        return in_box(space.back(moved), access.findings)

    def _draws(self, rows: Rows, step: int, *, like: Tensor) -> Draws:
        members, genes = like.shape[1:]
        draws = Draws.of(rows.generators("generation", step), children=members - 1, genes=genes).to(like)
        # The authors move all children of a generation by one and the same amount.
        return replace(draws, amount=draws.amount[:, :1]) if self.config.fidelity == "official" else draws

    def _fitness(self, access: Access[ScoreOracle], children: Tensor, rows: Rows) -> Tensor:
        """The probability of each child's identity. Shape: (B, M, S) to (B, M)."""
        styles = children.flatten(0, 1)
        whose = rows[torch.arange(len(rows)).repeat_interleave(children.shape[1])]

        def judge(part: slice) -> Tensor:
            images = self.render(access, styles[part], whose[part])
            return access.target.confidence(images, whose.identities[part].to(access.device))

        with torch.no_grad():
            return torch.cat(access.parts.run(judge, len(styles))).view(children.shape[:2])
