"""Starts from a pool: latents whose images the target model sees once, and the best of them for each identity."""

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
from workloads.inversion.attack import Access
from workloads.inversion.gradient_search import PROBE_ROWS, GradientAttackConfig
from workloads.inversion.rows import Rows
from workloads.inversion.selection import best_of_pool
from workloads.priors.base import PRIORS, Prior
from workloads.priors.staged import StagedPrior


class PooledConfig(GradientAttackConfig):
    """Where searches begin: at those entries of a pool that the target model takes most for the identity."""

    pool: PositiveInt = 2000
    """Latents drawn; the target model scores them once, for all identities together."""
    pool_seed: NonNegativeInt | None = None
    """Draw the pool from NumPy's RandomState with this seed, as others' code does; from the job's own where omitted."""
    truncation: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Of styles, towards their mean; 1 leaves them. A prior that is not staged knows no mean and is not truncated."""
    cutoff: PositiveInt = 8
    """Styles of an image that are truncated, from the first, where an image has several."""
    fidelity: Literal["fixed", "official"] = "fixed"
    """`official` repeats what is held to be wrong in the authors' code; published numbers were made with it."""

    @model_validator(mode="after")
    def _pool_holds_the_starts(self) -> PooledConfig:
        if self.starts > self.pool:
            raise ValueError(f"a pool of {self.pool} has no {self.starts} different starts: raise pool or start fewer")
        return self

    @property
    def starts(self) -> int:
        """Entries of the pool that each identity begins with."""
        return self.restarts

    def pool_protocol(self) -> dict[str, Any]:
        """What has to be known of the pool beside every number."""
        staged = self.prior is None or issubclass(PRIORS.class_of(self.prior), StagedPrior)
        return {
            "pool": self.pool,
            "pool_seed": self.pool_seed,
            "truncation": self.truncation if staged else 1.0,
            "fidelity": self.fidelity,
        }


def check_pooled(config: Any, prior: Prior) -> None:
    """Accept a prior whose images serve all identities.

    Raises:
        ConfigError: for one whose images depend on the identity.
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
    drawn = np.random.RandomState(config.pool_seed).randn(config.pool, prior.latent_size)
    return torch.from_numpy(drawn).float()


Look = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Latents (B, Z) to the starts (B, S) they stand for, and the target's probabilities (B, classes)."""


def explore(access: Access[Any], latents: Tensor, look: Look) -> tuple[Tensor, Tensor]:
    """Starts and probabilities of all latents, as many at once as memory holds; on the CPU."""
    if not access.parts.measured:
        _measure(access, latents[:PROBE_ROWS], look)

    def seen(part: slice) -> tuple[Tensor, Tensor]:
        starts, probabilities = look(latents[part].to(access.device))
        return starts.cpu(), probabilities.cpu()

    with torch.no_grad():
        found = access.parts.run(seen, len(latents))
    return torch.cat([starts for starts, _ in found]), torch.cat([own for _, own in found])


def _measure(access: Access[Any], few: Tensor, look: Look) -> None:
    """Learn how many images fit, and count none as a query; a search by gradients keeps more and measures anew."""
    queries, leaves = access.target.queries, few.to(access.device).requires_grad_(True)
    access.parts.measure(lambda: look(leaves)[0], len(few))
    access.target.queries, access.parts.measured = queries, False


def best_starts(starts: Tensor, probabilities: Tensor, identities: Tensor, *, count: int) -> State:
    """Findings that hold the best `count` entries of the pool for each identity, best first.

    Shape: starts (P, S), probabilities (P, classes), identities (I,) to `starts` (any, S); `candidates`, their numbers,
    and `confidences`, both (classes, count) and 0 for classes that are not attacked.
    """
    best = best_of_pool(probabilities, identities, count=count)
    used, numbers = best.unique(return_inverse=True)
    candidates = torch.zeros(probabilities.shape[1], count, dtype=torch.long)
    confidences = torch.zeros_like(candidates, dtype=probabilities.dtype)
    candidates[identities] = numbers
    confidences[identities] = probabilities[best, identities[:, None]]
    return {"starts": starts[used], "candidates": candidates, "confidences": confidences}


def start_of(findings: State, rows: Rows) -> Tensor:
    """Where each row begins: restart r of an identity at its entry of rank r. Shape: (B, S)."""
    return findings["starts"][findings["candidates"][rows.identities, rows.restarts]]
