"""What an attack is, and the loop that every white-box attack on latents shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol, final

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from workloads.attacks.access import WhiteBoxAccess
from workloads.attacks.selection import best_of_each
from workloads.checkpoints import State
from workloads.config import ComponentConfig
from workloads.context import JobContext
from workloads.errors import DivergedError
from workloads.randomness import normal_rows
from workloads.registry import Registry

REPORT_EVERY = 25  # steps


class AttackConfig(ComponentConfig):
    """Whom to attack, how often, and what to keep."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] | None = None
    """How results call it, where a spec has two of a kind; the kind where omitted."""
    identities: PositiveInt | None = None
    """Attack the first so many classes; all where omitted."""
    restarts: PositiveInt = 5
    """Independent starts for each identity."""
    keep: PositiveInt = 1
    """Reconstructions kept of each identity: those the target model scores highest. All where it equals `restarts`."""
    steps: PositiveInt = 1500
    chunk_rows: PositiveInt = 256
    """Latents optimised at once: bounds memory and changes no result beyond float rounding."""

    @model_validator(mode="after")
    def _keeps_what_it_makes(self) -> AttackConfig:
        if self.keep > self.restarts:
            raise ValueError(f"keep {self.keep} is above restarts {self.restarts}: lower keep or raise restarts")
        return self

    @property
    def label(self) -> str:
        return self.name or self.kind


@dataclass(frozen=True)
class Reconstructions:
    """What an attack returns: one row for each (identity, restart).

    Shape: images (R, C, H, W) in [0, 1]; latents (R, Z); identities and restarts (R,) int64; scores (R,), the target
    model's logit of the identity; kept (R,) bool.
    """

    images: Tensor
    latents: Tensor
    identities: Tensor
    restarts: Tensor
    scores: Tensor
    kept: Tensor
    queries: int


class Searcher(Protocol):
    latents: Tensor

    def step(self, gradient: Tensor) -> None: ...

    def state(self) -> State: ...

    def restore(self, state: State) -> None: ...


class Attack(ABC):
    """Rebuilds images of identities from what it has access to."""

    access: ClassVar[str]
    """'white box', 'scores' or 'labels only'."""
    config: AttackConfig

    def __init__(self, config: AttackConfig) -> None:
        self.config = config

    @abstractmethod
    def run(self, access: Any, identities: Tensor, *, context: JobContext) -> Reconstructions:
        """Attack each of `identities`, (I,) int64 class indices, `restarts` times."""

    def protocol(self) -> dict[str, Any]:
        """What has to stand beside every number this attack yields."""
        selection = "all" if self.config.keep >= self.config.restarts else f"best {self.config.keep} by target score"
        return {
            "attack": self.config.kind,
            "access": self.access,
            "steps": self.config.steps,
            "restarts": self.config.restarts,
            "kept": min(self.config.keep, self.config.restarts),
            "selection": selection,
        }


class WhiteBoxAttack(Attack):
    """Optimise latents until the target model sees the wanted identities. A subclass gives objective and searcher."""

    access = "white box"

    @abstractmethod
    def losses(self, access: WhiteBoxAccess, images: Tensor, identities: Tensor) -> Tensor:
        """Loss of each image; smaller is better. Shape: (B, C, H, W), (B,) to (B,)."""

    @abstractmethod
    def searcher(self, start: Tensor) -> Searcher:
        """The update rule, beginning at `start`, (B, Z)."""

    @property
    def batch_reference(self) -> int:
        """The divisor of the summed losses: the originals divide by their batch size, so it sets the step size."""
        return 1

    @final
    def run(self, access: WhiteBoxAccess, identities: Tensor, *, context: JobContext) -> Reconstructions:
        """A row's result does not depend on which rows share its chunk, up to float rounding."""
        rows = torch.cartesian_prod(identities, torch.arange(self.config.restarts)).split(self.config.chunk_rows)
        state = context.resume() or {"chunk": 0, "step": 0, "queries": 0, "latents": {}}
        access.queries = state["queries"]
        done: dict[str, Tensor] = state["latents"]
        for chunk in range(state["chunk"], len(rows)):
            searcher = self.searcher(_starts(rows[chunk], access, context))
            first = state["step"] if chunk == state["chunk"] else 0
            if first:
                searcher.restore(state["search"])
            for step in range(first, self.config.steps):
                loss = self._step(access, searcher, rows[chunk][:, 0].to(access.device))
                if (step + 1) % REPORT_EVERY == 0 or step + 1 == self.config.steps:
                    self._report(chunk, len(rows), step, loss, context)
                context.checkpoint(
                    lambda at=chunk, next_step=step + 1, search=searcher: {  # type: ignore[misc]
                        **{"chunk": at, "step": next_step, "queries": access.queries, "latents": done},
                        "search": search.state(),
                    }
                )
            done[str(chunk)] = searcher.latents.cpu()
        return self._collect(access, torch.cat(rows), torch.cat([done[str(chunk)] for chunk in range(len(rows))]))

    def _step(self, access: WhiteBoxAccess, searcher: Searcher, identities: Tensor) -> Tensor:
        latents = searcher.latents.detach().requires_grad_(True)
        losses = self.losses(access, access.prior.synthesize(latents), identities)
        # A sum, never a mean: a latent's gradient must not depend on how many others share its batch.
        (gradient,) = torch.autograd.grad(losses.sum() / self.batch_reference, latents)
        searcher.step(gradient)
        return losses.detach()

    def _report(self, chunk: int, chunks: int, step: int, losses: Tensor, context: JobContext) -> None:
        if not losses.isfinite().all():
            raise DivergedError(f"{self.config.label}: a loss became NaN or infinite by step {step + 1}: lower its lr.")
        steps = self.config.steps
        context.report(chunk * steps + step + 1, chunks * steps, {"loss": losses.mean().item()})

    @torch.no_grad()
    def _collect(self, access: WhiteBoxAccess, rows: Tensor, latents: Tensor) -> Reconstructions:
        """Final images and the target's score of each, chunked like the search."""
        images, scores = [], []
        for own, z in zip(rows.split(self.config.chunk_rows), latents.split(self.config.chunk_rows), strict=True):
            image = access.prior.synthesize(z.to(access.device))
            scores.append(access.logits(image).cpu().gather(1, own[:, :1]).flatten())
            images.append(image.cpu())
        score, identities = torch.cat(scores), rows[:, 0]
        kept = best_of_each(score, identities, keep=self.config.keep)
        return Reconstructions(torch.cat(images), latents, identities, rows[:, 1], score, kept, access.queries)


def _starts(rows: Tensor, access: WhiteBoxAccess, context: JobContext) -> Tensor:
    """Standard normal latents, each from the generator of its (identity, restart). Shape: (B, 2) to (B, Z)."""
    generators = [context.generator("start", identity, restart) for identity, restart in rows.tolist()]
    return normal_rows(generators, access.prior.latent_size).to(access.device)


ATTACKS: Registry[Attack] = Registry("workloads.attacks")
