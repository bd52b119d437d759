"""MIRROR: search a box of styles by gradients, or by breeding where only scores are known, from a large pool."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from workloads.attacks.base import ATTACKS, Access, Attack, Reconstructions
from workloads.attacks.mirror_search import GeneticMirror, GradientMirror, MirrorSearch
from workloads.attacks.pool import PooledConfig, check_pooled
from workloads.attacks.selection import best_of_each, in_widest_agreement
from workloads.config import Fraction, begun_with
from workloads.context import JobContext
from workloads.oracles import LabelOracle, ScoreOracle
from workloads.priors.base import Prior

SEARCHES: dict[str, type[MirrorSearch[Any]]] = {"gradient": GradientMirror, "genetic": GeneticMirror}
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
        return begun_with(GENETIC if given.get("search") == "genetic" else {}, given)

    @property
    def starts(self) -> int:
        return self.population if self.search == "genetic" else self.restarts


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
