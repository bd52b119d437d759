"""Starting points from a pool: latents whose images the target model scores once, and the best of them per identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.errors import ConfigError
from workloads.inversion.attack import Access, AttackConfig
from workloads.inversion.gradient_search import PROBE_ROWS, GradientAttackConfig
from workloads.inversion.rows import Rows
from workloads.inversion.selection import best_of_pool
from workloads.observation.oracles import LabelOracle
from workloads.priors.base import PRIORS, Prior
from workloads.priors.staged import StagedPrior


class PooledConfig(GradientAttackConfig):
    """Settings of an attack that starts each search from the pool entries which the target model scores highest."""

    pool: PositiveInt = 2000
    """Latents drawn; the target model scores them once, for all identities together."""
    pool_seed: NonNegativeInt | None = None
    """Draw the pool from NumPy's RandomState with this seed, as published code does; from the job's own generator if
    omitted."""
    truncation: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Factor by which styles are pulled to their mean; 1 leaves them. Only priors with styles are truncated."""
    cutoff: PositiveInt = 8
    """Number of an image's styles that are truncated, counted from the first, if an image has several."""
    fidelity: Literal["fixed", "official"] = "fixed"
    """`official` repeats what is held to be wrong in the authors' code; published numbers were made with it."""

    @model_validator(mode="after")
    def _pool_holds_the_starts(self) -> PooledConfig:
        if self.starts > self.pool:
            raise ValueError(f"a pool of {self.pool} has no {self.starts} different starts: raise pool or start fewer")
        return self

    @property
    def starts(self) -> int:
        """Entries of the pool that the searches of one identity start from."""
        return self.restarts

    def pool_protocol(self) -> dict[str, Any]:
        """What has to be stored about the pool beside every number."""
        staged = self.prior is None or issubclass(PRIORS.class_of(self.prior), StagedPrior)
        return {
            "pool": self.pool,
            "pool_seed": self.pool_seed,
            "truncation": self.truncation if staged else 1.0,
            "fidelity": self.fidelity,
        }


def check_pooled(config: AttackConfig, prior: Prior) -> None:
    """Refuse a prior whose images depend on the identity: one pool has to serve all identities.

    Raises:
        ConfigError: if the prior is conditional.
    """
    if prior.conditional:
        raise ConfigError(
            f"{config.label} shows one pool of images to the target model for all identities, but images of "
            f"{prior.config.kind} depend on the identity: take a prior without labels, such as wgan_gp."
        )


def draw_pool(config: PooledConfig, prior: Prior, *, context: JobContext) -> Tensor:
    """The latents of the pool. Shape: (pool, latent_size), float32, on the CPU."""
    if config.pool_seed is None:
        return torch.randn(config.pool, prior.latent_size, generator=context.generator("pool"))
    numbers = np.random.RandomState(config.pool_seed).randn(config.pool, prior.latent_size)
    return torch.from_numpy(numbers).float()


Scorer = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Latents (B, Z) to the starts (B, S) of searches from them, and the target's probabilities (B, classes)."""


def score_pool(access: Access[LabelOracle], latents: Tensor, score: Scorer) -> tuple[Tensor, Tensor]:
    """Starts and probabilities of all latents, in batches that fit in memory; on the CPU."""
    if not access.batches.measured:
        _measure(access, latents[:PROBE_ROWS], score)

    def score_batch(batch: slice) -> tuple[Tensor, Tensor]:
        starts, probabilities = score(latents[batch].to(access.device))
        return starts.cpu(), probabilities.cpu()

    with torch.no_grad():
        batches = access.batches.run(score_batch, len(latents))
    starts, probabilities = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return starts, probabilities


def _measure(access: Access[LabelOracle], probes: Tensor, score: Scorer) -> None:
    """Measure how many images fit, without counting queries; a search by gradients keeps more and measures again."""
    queries, leaves = access.target.queries, probes.to(access.device).requires_grad_(True)
    access.batches.measure(lambda: score(leaves)[0], len(probes))
    access.target.queries, access.batches.measured = queries, False


def best_starts(starts: Tensor, probabilities: Tensor, identities: Tensor, *, count: int) -> State:
    """Findings that hold the `count` best entries of the pool for each identity, best first.

    Shape: starts (P, S), probabilities (P, classes), identities (I,) to `starts` (used, S), `candidates`, indices into
    them, and `confidences`, both (classes, count) and 0 for classes that are not attacked.
    """
    best = best_of_pool(probabilities, identities, count=count)
    used, numbers = best.unique(return_inverse=True)
    candidates = torch.zeros(probabilities.shape[1], count, dtype=torch.long)
    confidences = torch.zeros_like(candidates, dtype=probabilities.dtype)
    candidates[identities] = numbers
    confidences[identities] = probabilities[best, identities[:, None]]
    return {"starts": starts[used], "candidates": candidates, "confidences": confidences}


def start_of(findings: State, rows: Rows) -> Tensor:
    """The start of each row: restart r of an identity begins at its entry of rank r. Shape: (B, S)."""
    return findings["starts"][findings["candidates"][rows.identities, rows.restarts]]
