"""MIRROR: search a box of styles by gradients, or by breeding where only scores are known, from a large pool."""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.config import Fraction, with_preset
from workloads.inversion.attack import ATTACKS, Access, Attack, Oracle, Reconstructions
from workloads.inversion.genetic_operators import TINY, Draws, crossed, fittest_first, mutated
from workloads.inversion.gradient_search import WhiteBoxAttack
from workloads.inversion.latent_pool import PooledConfig, best_starts, check_pooled, draw_pool, explore, start_of
from workloads.inversion.optimizers import Adam, Variables
from workloads.inversion.p_space import PSpace, in_box
from workloads.inversion.row_search import SearchAttack
from workloads.inversion.rows import Rows
from workloads.inversion.selection import best_of_each, in_widest_agreement
from workloads.observation.objectives import cross_entropy
from workloads.observation.oracles import LabelOracle, ScoreOracle, WhiteBoxOracle
from workloads.observation.views import RandomView, View, ViewConfig
from workloads.priors.base import Prior
from workloads.priors.staged import StagedPrior

GENETIC = {"restarts": 1, "steps": 100, "chunk_rows": 16}


class MirrorConfig(PooledConfig):
    """Defaults are those of the authors' scripts; `search: genetic` begins with 1 restart, 100 steps, chunks of 16.

    `fidelity: official` keeps the step whose loss is smallest over all rows of a chunk, in the state after it, and
    mirrors them all or none; it breeds children that take most genes from the less fit parent, and moves them all by
    one amount. `fixed` does each for every row, gives the fitter parent the larger part, and draws for each gene.
    """

    kind: Literal["mirror"] = "mirror"
    search: Literal["gradient", "genetic"] = "gradient"
    """Genetic needs only scores of the target model."""
    restarts: PositiveInt = 8
    steps: PositiveInt = 20000
    """Gradient steps, or generations."""
    pool: PositiveInt = 100_000
    truncation: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Of styles on their way to an image; those of the pool are drawn and searched as they are."""
    box_deviations: PositiveFloat = 1.0
    """Styles are moved no farther than so many standard deviations from the mean of the pool, in P space. Those of the
    pool stay as they were drawn."""
    identity_weight: PositiveFloat = 10.0
    """Of the cross-entropy, which is all of the loss: Adam makes nothing of it."""
    lr: PositiveFloat = 0.25
    ramp_up: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Part of the steps over which the learning rate rises in a line."""
    ramp_down: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Part of the steps over which it falls on a cosine to 0."""
    flip: Fraction = 0.5
    """Probability that a step looks at the mirror image."""
    batch_reference: PositiveInt = 8
    """The batch size the authors divide by; Adam makes little of it."""
    population: Annotated[int, Field(ge=2)] = 1000
    mutation_probability: Fraction = 0.1
    """Of each gene."""
    mutation_scale: PositiveFloat = 0.1
    """How far a gene moves at most, in standard deviations of the pool in P space."""
    stop_at: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Probability of the identity at which its population has done enough."""

    @model_validator(mode="before")
    @classmethod
    def _begin_with_search(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return with_preset(GENETIC if given.get("search") == "genetic" else {}, given)

    @property
    def starts(self) -> int:
        return self.population if self.search == "genetic" else self.restarts


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
        styles = prior.truncate(
            prior.repeat_style(latents), truncation=self.config.truncation, cutoff=self.config.cutoff
        )
        return prior.to_data_image(prior.run_blocks(styles)[1]).clamp(0, 1)


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


SEARCHES: dict[str, type[MirrorSearch[Any]]] = {"gradient": GradientMirror, "genetic": GeneticMirror}


@ATTACKS.register(MirrorConfig)
class Mirror(Attack[Any]):
    """Mirror: cross-entropy in a box of styles, by gradients or by a genetic search that sees only scores.

    Of the candidates that gradients yield, one is chosen whose next labels are those of most others; of a population
    the elite.

    Source: An et al., "MIRROR: Model Inversion for Deep Learning Network with High Fidelity", NDSS 2022.
    """

    config: MirrorConfig
    oracle: ClassVar[type[LabelOracle]] = ScoreOracle
    takes_lenses = True  # where it searches by gradients
    stages = ("score a pool", "search", "select")
    selection = "agreement of the next labels, then target score"

    @classmethod
    def facts(cls, config: Any) -> dict[str, str]:
        access = " or ".join(own.oracle.access for own in SEARCHES.values())
        return super().facts(config) | {"access": access}

    @classmethod
    def oracle_for(cls, config: Any) -> type[LabelOracle]:
        return SEARCHES[config.search].oracle

    @classmethod
    def check(cls, config: Any, *, prior: Prior | None, classes: int) -> None:
        super().check(config, prior=prior, classes=classes)
        assert prior is not None
        check_pooled(config, prior)

    def run(self, access: Access[Any], identities: Tensor, *, context: JobContext) -> Reconstructions:
        made = SEARCHES[self.config.search](self.config).run(access, identities, context=context)
        return self._agreeing(access, made) if self.config.search == "gradient" else made

    def protocol(self) -> dict[str, Any]:
        asked = {"search": self.config.search, "box_deviations": self.config.box_deviations}
        return super().protocol() | self.config.pool_protocol() | asked

    @torch.no_grad()
    def _agreeing(self, access: Access[Any], made: Reconstructions) -> Reconstructions:
        """The same, with the candidate of widest agreement kept first."""

        def ask(part: slice) -> Tensor:
            return access.target.logits(made.images[part].to(access.device)).cpu()

        logits = torch.cat(access.parts.run(ask, len(made.images)))
        first = in_widest_agreement(logits, made.identities)
        scores = made.scores.masked_fill(first, torch.inf)
        kept = best_of_each(scores, made.identities, keep=self.config.keep)
        return replace(made, kept=kept, queries=access.target.queries)
