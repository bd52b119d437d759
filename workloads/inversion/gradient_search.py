"""The step of every attack by gradients: latents to images, images to losses, a step down, a constraint."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.numerics import Precision, arithmetic
from workloads.inversion.attack import Access, Oracle, SearchConfig
from workloads.inversion.objective import Objective
from workloads.inversion.optimizers import Descent, Variables
from workloads.inversion.row_search import RowSearch
from workloads.inversion.rows import Rows, select
from workloads.inversion.step import Step
from workloads.observation.views import ComposedView, RandomView, View, ViewConfig

PROBE_ROWS = 2  # that memory is measured on


class GradientAttackConfig(SearchConfig):
    """Settings of an attack by gradients."""

    precision: Precision = "fp32"
    """Precision that networks compute in. On recent GPUs `tf32` and `bf16` cost less a step and blur its gradient, so
    that the same loss takes more steps."""


class GradientAttack(RowSearch[Oracle]):
    """Moves variables, by default latents, down the gradient of a loss of their images.

    An attack holds two values, its `objective` and its `descent`, and overrides the methods in which its paper differs.
    """

    config: GradientAttackConfig
    takes_lenses = True
    stages: ClassVar[tuple[str, ...]] = ("descend", "select")

    def __init__(self, config: GradientAttackConfig, *, objective: Objective[Oracle] | None = None) -> None:
        """`objective` replaces the attack's own."""
        super().__init__(config)
        self.objective = objective or self.default_objective()

    @abstractmethod
    def default_objective(self) -> Objective[Oracle]:
        """The objective of the attack's paper."""

    @property
    @abstractmethod
    def descent(self) -> Descent:
        """How losses are weighted and variables are moved."""

    def prior_losses(self, access: Access[Oracle], images: Tensor) -> Tensor:
        """Small where an image looks real; 0 by default. Shape: (B, C, H, W) to (B,)."""
        return images.new_zeros(len(images))

    def prepare(self, access: Access[Oracle], identities: Tensor, *, context: JobContext) -> State:
        """What the objective needs."""
        return self.objective.prepare(access, context=context)

    def start(self, access: Access[Oracle], rows: Rows) -> Variables:
        """Variables before the first step; by default standard normal latents, (B, Z)."""
        return {"latents": rows.normal(access.required_prior.latent_size, "start")}

    def images_of(self, access: Access[Oracle], variables: Variables, rows: Rows, step: Step) -> Tensor:
        """The images that a step looks at; by default those of the latents. Shape: (B, C, H, W) in about [0, 1]."""
        return self.render(access, variables["latents"], rows)

    def views(self, access: Access[Oracle]) -> Sequence[View]:
        """Random views that the objective is given at each step; losses are summed over them."""
        return (RandomView(ViewConfig()),)

    def constrain(self, access: Access[Oracle], variables: Variables, kept: State) -> Variables:
        """Variables after a step, put back where they may be."""
        return variables

    def remember(self, kept: State, variables: Variables, losses: Tensor | None) -> State:
        """What a row keeps beside its variables, one entry per row; `losses` are None before the first step."""
        return kept

    def begin(self, access: Access[Oracle], rows: Rows) -> State:
        """Variables at their start, with the memory of the update rule."""
        variables = self.start(access, rows)
        kept = self.remember({}, variables, None)
        return {"variables": variables, "memory": self.descent.rule.begin(variables), "kept": kept}

    def rates(self, step: int) -> tuple[float, ...]:
        """Those of the update rule."""
        return self.descent.rule.rates(step)

    def capturable(self, access: Access[Oracle]) -> bool:
        """Unless what the objective or a lens does has to be waited for."""
        return self.objective.capturable and all(lens.capturable for lens in access.lenses)

    def move(self, access: Access[Oracle], state: State, rows: Rows, step: Step) -> tuple[State, Tensor]:
        """Move the variables of all rows by one step down their gradients, in batches that fit in memory."""
        variables: Variables = state["variables"]
        if not access.batches.measured:
            self._measure(access, variables, rows, step)

        def gradients_of(batch: slice) -> tuple[Tensor, Variables]:
            return self._gradients(access, select(variables, batch), rows[batch], step)

        losses, gradients = _joined(access.batches.run(gradients_of, len(rows)))
        moved, memory = self.descent.rule.step(variables, gradients, state["memory"], step.rates)
        moved = self.constrain(access, moved, state["kept"])
        kept = self.remember(state["kept"], moved, losses)
        return {"variables": moved, "memory": memory, "kept": kept}, losses

    def losses(self, access: Access[Oracle], variables: Variables, rows: Rows, step: Step) -> Tensor:
        """The loss of each row at a step. Shape: (B,)."""
        images = self.images_of(access, variables, rows, step)
        return self.viewed_losses(access, images, rows, step) + self.prior_losses(access, images)

    @final
    def viewed_losses(self, access: Access[Oracle], images: Tensor, rows: Rows, step: Step) -> Tensor:
        """Weighted losses of the objective, summed over views and averaged over lenses.

        A row may have several images, side by side, each seen through its own draws. Shape: (B * n, C, H, W) of B rows
        to (B * n,).
        """
        count = len(images) // len(rows)
        identities = rows.identities.repeat_interleave(count)
        views = list(self.views(access))
        seen_through = [ComposedView(view, lens) for view in views for lens in access.lenses] or views
        losses = images.new_zeros(len(images))
        for number, view in enumerate(seen_through):
            draws = rows.draws("view", number, images=count).at(step.counter)
            losses = losses + self.objective.losses(access, view(images, draws), identities)
        return self.descent.identity_weight / max(len(access.lenses), 1) * losses

    def outcome(self, state: State) -> State:
        """The variables."""
        return {"variables": state["variables"]}

    def latents(self, access: Access[Oracle], state: State, rows: Rows) -> tuple[Rows, Tensor]:
        """The variables named `latents`."""
        return rows, state["variables"]["latents"]

    def _gradients(
        self, access: Access[Oracle], variables: Variables, rows: Rows, step: Step
    ) -> tuple[Tensor, Variables]:
        """Losses of rows and the gradients of their variables."""
        leaves = {name: tensor.detach().requires_grad_(True) for name, tensor in variables.items()}
        with arithmetic(self.config.precision, access.device) as forward:
            with forward:
                losses = self.losses(access, leaves, rows, step)
            # The sum, so that a row's gradient does not depend on how many share its batch.
            gradients = torch.autograd.grad(losses.sum() / self.descent.batch_reference, list(leaves.values()))
        return losses.detach(), dict(zip(leaves, gradients, strict=True))

    def _measure(self, access: Access[Oracle], variables: Variables, rows: Rows, step: Step) -> None:
        """Measure how much memory a row takes; its images are not counted as queries."""
        few, queries = slice(0, PROBE_ROWS), access.target.queries
        leaves = {name: tensor[few].detach().requires_grad_(True) for name, tensor in variables.items()}
        access.batches.measure(lambda: self.losses(access, leaves, rows[few], step), len(rows[few]))
        access.target.queries = queries


def _joined(batches: list[tuple[Tensor, Variables]]) -> tuple[Tensor, Variables]:
    """Losses and gradients of all batches as if they had been one."""
    losses = torch.cat([batch_losses for batch_losses, _ in batches])
    names = batches[0][1]
    return losses, {name: torch.cat([gradients[name] for _, gradients in batches]) for name in names}
