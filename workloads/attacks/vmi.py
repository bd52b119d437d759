"""VMI: fit a distribution over latents whose images look like the identity, and draw from it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.config import Steps
from workloads.core.numerics import full_precision
from workloads.inversion.attack import ATTACKS, Access
from workloads.inversion.gradient_search import GradientAttack, GradientAttackConfig
from workloads.inversion.objective import TargetObjective
from workloads.inversion.optimizers import Descent, Momentum, Variables
from workloads.inversion.rows import Rows
from workloads.inversion.step import Step
from workloads.inversion.variational import Family, Flow, Gaussian
from workloads.observation.losses import cross_entropy
from workloads.observation.oracles import LabelOracle, WhiteBoxOracle


class VmiConfig(GradientAttackConfig):
    """Settings of VMI; the defaults are those of the authors' code, but for the distribution.

    The authors fit one flow to each layer of a StyleGAN; here it is one flow over the latents.
    """

    version: ClassVar[int] = 4
    kind: Literal["vmi"] = "vmi"
    restarts: PositiveInt = 1
    """Distributions fitted to each identity."""
    draws: PositiveInt = 50
    """Reconstructions drawn from each distribution."""
    keep: PositiveInt = 50
    """Reconstructions kept per identity, of restarts x draws; the authors keep all."""
    steps: Steps = 4867
    """Steps that each distribution is fitted for, each on fresh samples: the authors' 31 epochs of 157."""
    samples: PositiveInt = 64
    """Images per distribution and step. Memory grows with it."""
    family: Literal["gaussian", "flow"] = "flow"
    """Kind of distribution: independent normal numbers, or a normalising flow."""
    kl_weight: NonNegativeFloat = 1e-3
    """Weight of KL(q || N(0, I)), the divergence from the prior's own latents."""
    lr: PositiveFloat = 1e-4
    """Learning rate of the distribution's parameters."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of the gradient steps."""
    blocks: PositiveInt = 10
    """Coupling blocks of a flow; used with `family: flow` only."""
    hidden: PositiveInt = 100
    """Width of the networks in a flow; used with `family: flow` only."""

    @property
    def candidates_per_identity(self) -> int:
        """Restarts x draws."""
        return self.restarts * self.draws


@ATTACKS.register(VmiConfig)
class Vmi(GradientAttack[WhiteBoxOracle]):
    """Variational model inversion: the distribution q with the least E[cross-entropy] + weight x KL(q || prior).

    A row is a distribution. The divergence of a flow is estimated on the samples whose images are looked at; the
    authors draw a second batch for it, which has the same expectation.

    Source: Wang et al., "Variational Model Inversion Attacks", NeurIPS 2021.
    """

    oracle: ClassVar[type[LabelOracle]] = WhiteBoxOracle
    stages = ("fit a distribution", "draw", "select")
    config: VmiConfig

    def default_objective(self) -> TargetObjective:
        """Cross-entropy of the target's logits."""
        return TargetObjective(cross_entropy)

    @property
    def descent(self) -> Descent:
        """Gradient descent with momentum."""
        return Descent(Momentum(self.config.lr, self.config.momentum))

    def prepare(self, access: Access[WhiteBoxOracle], identities: Tensor, *, context: JobContext) -> State:
        """The permutations of a flow. Shape: (blocks, Z)."""
        findings = super().prepare(access, identities, context=context)
        if self.config.family == "gaussian":
            return findings
        size, blocks = access.required_prior.latent_size, range(self.config.blocks)
        orders = [torch.randperm(size, generator=context.generator("permutation", block)) for block in blocks]
        return findings | {"permutations": torch.stack(orders)}

    def start(self, access: Access[WhiteBoxOracle], rows: Rows) -> Variables:
        """The standard normal distribution for each row."""
        return self._family(access).begin(rows)

    def losses(self, access: Access[WhiteBoxOracle], variables: Variables, rows: Rows, step: Step) -> Tensor:
        """The mean loss over samples, plus the weighted divergence from the prior."""
        count = self.config.samples
        sample_rows, latents, divergence = self._draw(access, variables, rows, count, "samples", step=step.counter)
        losses = self.viewed_losses(access, self.render(access, latents, sample_rows), rows, step)
        return losses.unflatten(0, (len(rows), count)).mean(1) + self.config.kl_weight * divergence

    def latents(self, access: Access[WhiteBoxOracle], state: State, rows: Rows) -> tuple[Rows, Tensor]:
        """Draws from each distribution, side by side."""
        return self._draw(access, state["variables"], rows, self.config.draws, "reconstructions")[:2]

    def _family(self, access: Access[WhiteBoxOracle]) -> Family:
        if self.config.family == "gaussian":
            return Gaussian(access.required_prior.latent_size)
        return Flow(access.findings["permutations"], self.config.hidden)

    def _draw(
        self,
        access: Access[WhiteBoxOracle],
        variables: Variables,
        rows: Rows,
        count: int,
        purpose: str,
        step: Tensor | None = None,
    ) -> tuple[Rows, Tensor, Tensor]:
        """Latents from the distribution of each row, the row of each latent, and the divergence of each row.

        Shape: B * count rows, (B * count, Z), (B,).
        """
        noise = rows.normal(count * access.required_prior.latent_size, purpose, step=step)
        noise = noise.to(next(iter(variables.values()))).unflatten(1, (count, -1))
        with full_precision(access.device):  # latents stay fp32, whatever networks of images compute in
            latents, divergence = self._family(access).draw(variables, noise)
        return rows.repeated(count), latents.flatten(0, 1), divergence

    def protocol(self) -> dict[str, Any]:
        """Adds family and number of samples."""
        return super().protocol() | {"family": self.config.family, "samples": self.config.samples}
