"""What an attack without any search reaches: the public images that the target takes for each identity."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import PositiveInt
from torch import Tensor

from workloads.context import JobContext
from workloads.inversion.attack import ATTACKS, Access, Attack, AttackConfig, Reconstructions
from workloads.inversion.identity_choice import IdentityChoice
from workloads.inversion.selection import best_of_pool
from workloads.observation.oracles import LabelOracle, ScoreOracle
from workloads.priors.base import PriorConfig


class NearestPublicConfig(AttackConfig):
    """Settings of the choice among public images."""

    prior: ClassVar[None] = None
    needs_prior: ClassVar[bool] = False

    kind: Literal["nearest_public"] = "nearest_public"
    identities: IdentityChoice = None
    """Who is attacked: a number for the first N identities, a list of names, or `{count: 20, draw: random}`; `all`, the
    default, for everybody."""
    keep: PositiveInt = 1
    """Public images kept per identity; fewer where there are fewer."""

    @property
    def candidates_per_identity(self) -> int:
        """Public images that are kept of each identity."""
        return self.keep

    def with_prior(self, prior: PriorConfig | None) -> Self:
        """Itself: it needs none."""
        return self


@ATTACKS.register(NearestPublicConfig)
class NearestPublic(Attack[ScoreOracle]):
    """For each identity the public images that the target model is most confident of.

    They are of other people, so what they reach is likeness that needs no private image.

    Source: this project; the floor that reviewers of inversion benchmarks ask for.
    """

    oracle: ClassVar[type[LabelOracle]] = ScoreOracle
    needs_public_images: ClassVar[bool] = True
    stages: ClassVar[tuple[str, ...]] = ("ask about every public image", "select")
    config: NearestPublicConfig

    def run(self, access: Access[ScoreOracle], identities: Tensor, *, context: JobContext) -> Reconstructions:
        """Ask the target about every public image once."""
        public = access.public_images
        assert public is not None, "it needs public images"

        def answers(batch: slice) -> Tensor:
            return access.target.probabilities(public[batch].to(access.device).float() / 255).cpu()

        confidences = torch.cat(access.batches.run(answers, len(public)))
        count = min(self.config.keep, len(public))
        best = best_of_pool(confidences, identities, count=count)
        rows = best.flatten()
        whose = identities.repeat_interleave(count)
        return Reconstructions(
            images=public[rows].float() / 255,
            latents=torch.zeros(len(rows), 0),
            identities=whose,
            restarts=torch.arange(count).repeat(len(identities)),
            scores=confidences[rows, whose],
            kept=torch.ones(len(rows), dtype=torch.bool),
            queries=access.target.queries,
            latent_steps=0,
        )

    def protocol(self) -> dict[str, Any]:
        """One look at each public image."""
        return {
            "attack": self.config.kind,
            "access": self.oracle.access,
            "steps": 0,
            "restarts": 1,
            "made": self.config.keep,
            "kept": self.config.keep,
            "selection": f"best {self.config.keep} of all public images by target confidence",
        }
