"""VMI: fit a law over latents whose images look like the identity, and draw from it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.inversion.attack import ATTACKS, Access
from workloads.inversion.gradient_search import GradientAttackConfig, WhiteBoxAttack
from workloads.inversion.optimizers import Momentum, Variables
from workloads.inversion.rows import Rows
from workloads.inversion.variational import Family, Flow, Gaussian
from workloads.observation.objectives import cross_entropy
from workloads.observation.oracles import WhiteBoxOracle


class VmiConfig(GradientAttackConfig):
    """Defaults are those of the authors' code, but for the law: theirs is one flow for each layer of a StyleGAN."""

    version: ClassVar[int] = 2
    kind: Literal["vmi"] = "vmi"
    restarts: PositiveInt = 1
    """Laws fitted to each identity."""
    draws: PositiveInt = 50
    """Reconstructions drawn from each law."""
    keep: PositiveInt = 50
    """Of the restarts x draws made of each identity; the authors keep all."""
    steps: PositiveInt = 4867
    """Of each law, on fresh samples: the authors' 31 epochs of 157."""
    samples: PositiveInt = 64
    """Images that a law is judged by at each step; memory grows with it."""
    family: Literal["gaussian", "flow"] = "flow"
    kl_weight: NonNegativeFloat = 1e-3
    """Of the divergence from the prior's own latents."""
    lr: PositiveFloat = 1e-4
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    blocks: PositiveInt = 10
    """Of a flow."""
    hidden: PositiveInt = 100
    """Width of a flow's networks."""

    @property
    def made(self) -> int:
        return self.restarts * self.draws


@ATTACKS.register(VmiConfig)
class Vmi(WhiteBoxAttack):
    """Variational model inversion: the law q over latents with the least E[cross-entropy] + weight x KL(q || prior).

    A row is a law. The divergence of a flow is estimated on the samples whose images are judged, where the authors
    draw a second batch for it; both have the same expectation.

    Source: Wang et al., "Variational Model Inversion Attacks", NeurIPS 2021.
    """

    stages = ("fit a law", "draw", "select")
    config: VmiConfig

    @property
    def rule(self) -> Momentum:
        return Momentum(self.config.lr, self.config.momentum)

    def prepare(self, access: Access[WhiteBoxOracle], identities: Tensor, *, context: JobContext) -> State:
        """The permutations of a flow. Shape: (blocks, Z)."""
        if self.config.family == "gaussian":
            return {}
        size, blocks = access.generator.latent_size, range(self.config.blocks)
        drawn = [torch.randperm(size, generator=context.generator("permutation", block)) for block in blocks]
        return {"permutations": torch.stack(drawn)}

    def start(self, access: Access[WhiteBoxOracle], rows: Rows) -> Variables:
        return self._family(access).begin(rows, device=access.device)

    def identity_losses(self, access: Access[WhiteBoxOracle], images: Tensor, identities: Tensor) -> Tensor:
        return cross_entropy(access.target.logits(images), identities)

    def losses(self, access: Access[WhiteBoxOracle], variables: Variables, rows: Rows, step: int) -> Tensor:
        count = self.config.samples
        each, latents, divergence = self._drawn(access, variables, rows, count, "samples", step)
        looks = self.looks(access, self.render(access, latents, each), rows, step)
        return looks.unflatten(0, (len(rows), count)).mean(1) + self.config.kl_weight * divergence

    def latents(self, access: Access[WhiteBoxOracle], state: State, rows: Rows) -> tuple[Rows, Tensor]:
        return self._drawn(access, state["variables"], rows, self.config.draws, "reconstructions")[:2]

    def _family(self, access: Access[WhiteBoxOracle]) -> Family:
        if self.config.family == "gaussian":
            return Gaussian(access.generator.latent_size)
        return Flow(access.findings["permutations"], self.config.hidden)

    def _drawn(
        self, access: Access[WhiteBoxOracle], variables: Variables, rows: Rows, count: int, *purpose: str | int
    ) -> tuple[Rows, Tensor, Tensor]:
        """Latents from the law of each row, whose they are, and the divergence of each law.

        Shape: B * count rows, (B * count, Z), (B,).
        """
        noise = rows.normal(count * access.generator.latent_size, *purpose).to(next(iter(variables.values())))
        latents, divergence = self._family(access).draw(variables, noise.unflatten(1, (count, -1)))
        return rows.repeated(count), latents.flatten(0, 1), divergence

    def protocol(self) -> dict[str, Any]:
        return super().protocol() | {"family": self.config.family, "samples": self.config.samples}
