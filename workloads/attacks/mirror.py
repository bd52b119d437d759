"""MIRROR: search a box of styles by gradients, or genetically if only scores are known, from a large pool."""

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
from workloads.core.config import Fraction, Steps, with_preset
from workloads.inversion.attack import (
    ATTACKS,
    Access,
    Attack,
    AttackConfig,
    Oracle,
    Reconstructions,
    search_protocol,
)
from workloads.inversion.genetic_operators import TINY, GenerationDraws, crossed, fittest_first, mutated
from workloads.inversion.gradient_search import GradientAttack
from workloads.inversion.latent_pool import PooledConfig, best_starts, check_pooled, draw_pool, score_pool, start_of
from workloads.inversion.objective import TargetObjective
from workloads.inversion.optimizers import Adam, Descent, Variables
from workloads.inversion.p_space import PSpace, in_box
from workloads.inversion.row_search import RowSearch
from workloads.inversion.rows import Rows
from workloads.inversion.selection import best_of_each, in_widest_agreement
from workloads.inversion.step import Step
from workloads.observation.losses import cross_entropy
from workloads.observation.oracles import LabelOracle, ScoreOracle, WhiteBoxOracle
from workloads.observation.views import RandomView, View, ViewConfig
from workloads.priors.base import Prior
from workloads.priors.staged import StagedPrior

GENETIC = {"restarts": 1, "steps": 100, "chunk_rows": 16}


class MirrorConfig(PooledConfig):
    """Settings of MIRROR; the defaults are those of the authors' scripts.

    `search: genetic` has other defaults: 1 restart, 100 steps, chunks of 16. `fidelity: official` keeps the step whose
    loss is smallest over all rows of a chunk, in the state after that step, and mirrors all images or none; its
    children take most genes from the less fit parent, and mutate by one amount for all genes. `fixed` decides for each
    row, lets the fitter parent give more genes, and draws the amount for each gene.
    """

    version: ClassVar[int] = 3
    kind: Literal["mirror"] = "mirror"
    search: Literal["gradient", "genetic"] = "gradient"
    """`gradient` needs the target model itself, `genetic` only its scores."""
    restarts: PositiveInt = 8
    """Independent searches per identity."""
    steps: Steps = 20000
    """Gradient steps, or generations."""
    pool: PositiveInt = 100_000
    """Latents drawn; the target model scores them once, for all identities together."""
    truncation: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Factor by which styles are pulled to their mean when an image is made of them; 1 leaves them. The styles of the
    pool are searched as they were drawn."""
    box_deviations: PositiveFloat = 1.0
    """Largest distance of a searched style from the mean of the pool, in standard deviations, in P space."""
    identity_weight: PositiveFloat = 10.0
    """Weight of the cross-entropy. It is the only term and Adam ignores scale, so it has no effect; kept for comparison
    with the authors' settings."""
    lr: PositiveFloat = 0.25
    """Largest learning rate of the styles."""
    ramp_up: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Fraction of the steps over which the learning rate rises linearly."""
    ramp_down: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Fraction of the steps over which the learning rate falls along a cosine to 0."""
    flip: Fraction = 0.5
    """Probability that a step looks at the mirror image."""
    batch_reference: PositiveInt = 8
    """Batch size that the authors divide losses by; Adam all but cancels it."""
    population: Annotated[int, Field(ge=2)] = 1000
    """Styles in a population of the genetic search."""
    mutation_probability: Fraction = 0.1
    """Probability that a gene mutates."""
    mutation_scale: PositiveFloat = 0.1
    """Largest change of a mutated gene, in standard deviations of the pool in P space."""
    stop_at: Annotated[float, Field(gt=0, le=1)] = 0.95
    """The genetic search of an identity ends once its best probability reaches this."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_search(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return with_preset(GENETIC if values.get("search") == "genetic" else {}, values)

    @property
    def starts(self) -> int:
        """The population of the genetic search, the restarts of the other."""
        return self.population if self.search == "genetic" else self.restarts


class MirrorSearch(RowSearch[Oracle], ABC):
    """What both searches share: how a style becomes an image, the pool, and the box."""

    config: MirrorConfig

    def prepare(self, access: Access[Oracle], identities: Tensor, *, context: JobContext) -> State:
        """The box of the pool's styles, and the best of them for each identity."""
        target = access.target
        assert isinstance(target, ScoreOracle)  # what either search asks is one

        def score(latents: Tensor) -> tuple[Tensor, Tensor]:
            styles = access.required_prior.map(latents)
            return styles, target.probabilities(self._images(access.required_prior, styles))

        pool = draw_pool(self.config, access.required_prior, context=context)
        styles, probabilities = score_pool(access, pool, score)
        box = PSpace.of(access.required_prior).box(styles, deviations=self.config.box_deviations)
        starts = best_starts(styles, probabilities, identities, count=self.config.starts)
        return super().prepare(access, identities, context=context) | box | starts

    def render(self, access: Access[Oracle], latents: Tensor, rows: Rows) -> Tensor:
        """Images of styles, truncated on the way."""
        return self._images(access.required_prior, latents)

    def _images(self, prior: Prior, styles: Tensor) -> Tensor:
        """Images of styles, which a staged prior truncates on the way."""
        if not isinstance(prior, StagedPrior):
            return prior.synthesize(styles).clamp(0, 1)
        truncated = prior.truncate(
            prior.repeat_style(styles), truncation=self.config.truncation, cutoff=self.config.cutoff
        )
        return prior.to_data_image(prior.run_blocks(truncated)[1]).clamp(0, 1)


class GradientMirror(MirrorSearch[WhiteBoxOracle], GradientAttack[WhiteBoxOracle]):
    """Cross-entropy by Adam, with a learning rate that rises and falls; the best step of each row counts."""

    oracle: ClassVar[type[LabelOracle]] = WhiteBoxOracle
    config: MirrorConfig

    def default_objective(self) -> TargetObjective:
        """Cross-entropy of the target's logits."""
        return TargetObjective(cross_entropy)

    @property
    def descent(self) -> Descent:
        """Adam with a learning rate that rises and falls."""
        rule = Adam(self.config.lr, schedule=self._ramps)
        return Descent(rule, self.config.identity_weight, self.config.batch_reference)

    def start(self, access: Access[WhiteBoxOracle], rows: Rows) -> Variables:
        """The best styles of the pool for each identity."""
        return {"latents": start_of(access.findings, rows)}

    def views(self, access: Access[WhiteBoxOracle]) -> Sequence[View]:
        """A random flip; with official fidelity the same for all rows."""
        draws: Literal["per_batch", "per_image"] = "per_batch" if self.config.fidelity == "official" else "per_image"
        return (RandomView(ViewConfig(flip=self.config.flip, draws=draws)),)

    def constrain(self, access: Access[WhiteBoxOracle], variables: Variables, kept: State) -> Variables:
        """Keep styles in the box."""
        return {"latents": in_box(variables["latents"], access.findings)}

    def remember(self, kept: State, variables: Variables, losses: Tensor | None) -> State:
        """The latents of the smallest loss so far, and the latents that the next loss will belong to."""
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
        """The latents of the smallest loss."""
        return {"variables": {"latents": state["kept"]["best"]}}

    def _ramps(self, step: int) -> float:
        """Factor of the learning rate at a step counted from 0."""
        done = (step + 1) / self.config.steps
        down = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - done) / self.config.ramp_down))
        return down * min(1.0, done / self.config.ramp_up)


class GeneticMirror(MirrorSearch[ScoreOracle]):
    """Populations bred by the probability of their identity; each row is one population."""

    oracle: ClassVar[type[LabelOracle]] = ScoreOracle

    def begin(self, access: Access[ScoreOracle], rows: Rows) -> State:
        """The best of the pool as population, with their probabilities as fitness."""
        findings = access.findings
        candidates = findings["candidates"][rows.identities]
        return {"population": findings["starts"][candidates], "fitness": findings["confidences"][rows.identities]}

    def move(self, access: Access[ScoreOracle], state: State, rows: Rows, step: Step) -> tuple[State, Tensor]:
        """Replace all but the elite by children, and rank them."""
        children = self._children(access, state, rows, step)
        population = torch.cat((state["population"][:, :1], children), 1)
        fitness = torch.cat((state["fitness"][:, :1], self._fitness(access, children, rows)), 1)
        population, fitness = fittest_first(population, fitness)
        return {"population": population, "fitness": fitness}, -(fitness[:, 0] + TINY).log()

    def settled(self, state: State) -> Tensor:
        """A population is done once its elite reaches `stop_at`."""
        return state["fitness"][:, 0] >= self.config.stop_at

    def outcome(self, state: State) -> State:
        """The fittest style of each population."""
        return {"elite": state["population"][:, 0]}

    def latents(self, access: Access[ScoreOracle], state: State, rows: Rows) -> tuple[Rows, Tensor]:
        """The fittest style of each population."""
        return rows, state["elite"]

    def _children(self, access: Access[ScoreOracle], state: State, rows: Rows, step: Step) -> Tensor:
        """The next generation, without the elite. Shape: (B, population - 1, S)."""
        population, official = state["population"], self.config.fidelity == "official"
        draws = self._draws(rows, step, like=population)
        children = crossed(population, state["fitness"], draws, worse_first=official)
        space = PSpace.of(access.required_prior)
        reach = self.config.mutation_scale * access.findings["spread"]
        moved = mutated(space.to(children), draws, probability=self.config.mutation_probability, reach=reach)
        return in_box(space.back(moved), access.findings)

    def _draws(self, rows: Rows, step: Step, *, like: Tensor) -> GenerationDraws:
        members, genes = like.shape[1:]
        numbers = rows.draws("generation").at(step.counter)
        draws = GenerationDraws.of(numbers, children=members - 1, genes=genes).to(like)
        # The authors move all children of a generation by one and the same amount.
        return replace(draws, amount=draws.amount[:, :1]) if self.config.fidelity == "official" else draws

    def _fitness(self, access: Access[ScoreOracle], children: Tensor, rows: Rows) -> Tensor:
        """The probability of each child's identity. Shape: (B, M, S) to (B, M)."""
        styles, style_rows = children.flatten(0, 1), rows.repeated(children.shape[1])

        def confidence(batch: slice) -> Tensor:
            images = self.render(access, styles[batch], style_rows[batch])
            return access.target.confidence(images, style_rows.identities[batch])

        with torch.no_grad():
            return torch.cat(access.batches.run(confidence, len(styles))).view(children.shape[:2])


SEARCHES: dict[str, type[MirrorSearch[Any]]] = {"gradient": GradientMirror, "genetic": GeneticMirror}


@ATTACKS.register(MirrorConfig)
class Mirror(Attack[Any]):
    """Mirror: cross-entropy in a box of styles, by gradients or by a genetic search that sees only scores.

    Of the candidates of the gradient search the one is chosen first whose next labels agree with most others; of a
    population the fittest style.

    Source: An et al., "MIRROR: Model Inversion for Deep Learning Network with High Fidelity", NDSS 2022.
    """

    config: MirrorConfig
    oracle: ClassVar[type[LabelOracle]] = ScoreOracle
    takes_lenses = True  # if it searches by gradients
    milder = "search: genetic"
    stages = ("score a pool", "search", "select")

    @classmethod
    def facts(cls, config: type[AttackConfig]) -> dict[str, str]:
        """The access is that of either search."""
        access = " or ".join(search.oracle.access for search in SEARCHES.values())
        return super().facts(config) | {"access": access}

    @property
    def oracle_type(self) -> type[LabelOracle]:
        """What the chosen search asks of the target model."""
        return SEARCHES[self.config.search].oracle

    def check(self, *, prior: Prior | None, classes: int) -> None:
        """Refuse a prior whose images depend on the identity."""
        super().check(prior=prior, classes=classes)
        assert prior is not None
        check_pooled(self.config, prior)

    def planned_queries(self, identities: int) -> int:
        """The pool and the final images."""
        return self.config.pool + identities * self.config.candidates_per_identity

    def run(self, access: Access[Any], identities: Tensor, *, context: JobContext) -> Reconstructions:
        """Run the chosen search; of gradients' candidates keep the one of widest agreement first."""
        search = SEARCHES[self.config.search](self.config)
        reconstructions = search.run(access, identities, context=context)
        return self._agreeing(access, reconstructions) if self.config.search == "gradient" else reconstructions

    def protocol(self) -> dict[str, Any]:
        """Adds the search, the pool and the box."""
        protocol = search_protocol(
            self.config, access=self.oracle_type.access, selection="agreement of the next labels, then target score"
        )
        settings = {"search": self.config.search, "box_deviations": self.config.box_deviations}
        return protocol | self.config.pool_protocol() | settings

    @torch.no_grad()
    def _agreeing(self, access: Access[Any], reconstructions: Reconstructions) -> Reconstructions:
        """The same reconstructions, with the candidate of widest agreement kept first."""
        images, identities = reconstructions.images, reconstructions.identities

        def logits_of(batch: slice) -> Tensor:
            logits: Tensor = access.target.logits(images[batch].to(access.device))
            return logits.cpu()

        logits = torch.cat(access.batches.run(logits_of, len(images)))
        first = in_widest_agreement(logits, identities)
        scores = reconstructions.scores.masked_fill(first, torch.inf)
        kept = best_of_each(scores, identities, keep=self.config.keep)
        return replace(reconstructions, kept=kept, queries=access.target.queries)
