"""The loop that every attack by gradients shares: latents to images, images to losses, a step down, a constraint."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from workloads.core.checkpoints import State
from workloads.inversion.attack import Access, Oracle, SearchConfig
from workloads.inversion.optimizers import Rule, Variables
from workloads.inversion.row_search import SearchAttack
from workloads.inversion.rows import Rows, select
from workloads.observation.oracles import LabelOracle, WhiteBoxOracle
from workloads.observation.views import RandomView, Seen, View, ViewConfig

PROBE_ROWS = 2


class GradientAttackConfig(SearchConfig):
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16` halves the cost of a step and blurs its gradient: the same loss then takes more steps."""


class GradientAttack(SearchAttack[Oracle]):
    """Optimise variables until their images look like the identities. Its openings are what papers differ in."""

    config: GradientAttackConfig
    takes_lenses = True
    stages: ClassVar[tuple[str, ...]] = ("descend", "select")

    @property
    @abstractmethod
    def rule(self) -> Rule:
        """How the variables move."""

    @abstractmethod
    def identity_losses(self, access: Access[Oracle], images: Tensor, identities: Tensor) -> Tensor:
        """Looks like its identity; smaller is better. Shape: (B, C, H, W), (B,) to (B,)."""

    def prior_losses(self, access: Access[Oracle], images: Tensor) -> Tensor:
        """Looks real; smaller is better. Shape: (B, C, H, W) to (B,)."""
        return images.new_zeros(len(images))

    @property
    def identity_weight(self) -> float:
        return 1.0

    @property
    def batch_reference(self) -> int:
        """The divisor of the summed losses: the originals divide by their batch size, so it sets the step size."""
        return 1

    def start(self, access: Access[Oracle], rows: Rows) -> Variables:
        """Variables before the first step; by default standard normal latents, (B, Z)."""
        return {"latents": rows.normal(access.generator.latent_size, "start").to(access.device)}

    def latents_of(self, variables: Variables, rows: Rows, step: int) -> Tensor:
        """The latents whose images a step looks at; by default the variables themselves."""
        return variables["latents"]

    def images_of(self, access: Access[Oracle], variables: Variables, rows: Rows, step: int) -> Tensor:
        """The images a step looks at. Shape: (B, C, H, W) in about [0, 1]."""
        return self.render(access, self.latents_of(variables, rows, step), rows)

    def views(self, access: Access[Oracle]) -> Sequence[View]:
        """Random views of the images that the target model is shown at each step; losses are summed over them."""
        return (RandomView(ViewConfig()),)

    def constrain(self, access: Access[Oracle], variables: Variables, kept: State) -> Variables:
        """Variables put back where they may be after a step."""
        return variables

    def remember(self, kept: State, variables: Variables, losses: Tensor | None, step: int) -> State:
        """What is carried along beside variables, one entry a row; `losses` are None before the first step."""
        return kept

    def begin(self, access: Access[Oracle], rows: Rows) -> State:
        variables = self.start(access, rows)
        kept = self.remember({}, variables, None, 0)
        return {"variables": variables, "memory": self.rule.begin(variables), "kept": kept}

    def advance(self, access: Access[Oracle], state: State, rows: Rows, step: int) -> tuple[State, Tensor]:
        variables: Variables = state["variables"]
        if not access.parts.measured:
            self._measure(access, variables, rows, step)

        def slopes(part: slice) -> tuple[Tensor, Variables]:
            return self._slopes(access, select(variables, part), rows[part], step)

        losses, gradients = _joined(access.parts.run(slopes, len(rows)))
        moved, memory = self.rule.step(variables, gradients, state["memory"], step)
        moved = self.constrain(access, moved, state["kept"])
        kept = self.remember(state["kept"], moved, losses, step)
        return {"variables": moved, "memory": memory, "kept": kept}, losses

    def losses(self, access: Access[Oracle], variables: Variables, rows: Rows, step: int) -> Tensor:
        """The objective of each row at a step. Shape: (B,)."""
        images = self.images_of(access, variables, rows, step)
        return self.looks(access, images, rows, step) + self.prior_losses(access, images)

    def looks(self, access: Access[Oracle], images: Tensor, rows: Rows, step: int) -> Tensor:
        """Weighted identity losses, summed over views and averaged over lenses.

        A row may have several images, one after the other, each seen by draws of its own. Shape: (B * n, C, H, W), B
        rows, to (B * n,).
        """
        count = len(images) // len(rows)
        identities = rows.identities.repeat_interleave(count).to(access.device)
        views = list(self.views(access))
        seen_through = [Seen(view, lens) for view in views for lens in access.lenses] or views
        looks = images.new_zeros(len(images))
        for number, view in enumerate(seen_through):
            draws = (own for own in rows.generators("view", number, step, alike=view.alike) for _ in range(count))
            looks = looks + self.identity_losses(access, view(images, draws), identities)
        return self.identity_weight / max(len(access.lenses), 1) * looks

    def outcome(self, state: State) -> State:
        return {"variables": state["variables"]}

    def latents(self, access: Access[Oracle], state: State, rows: Rows) -> tuple[Rows, Tensor]:
        return rows, state["variables"]["latents"]

    def _slopes(self, access: Access[Oracle], variables: Variables, rows: Rows, step: int) -> tuple[Tensor, Variables]:
        leaves = {name: own.detach().requires_grad_(True) for name, own in variables.items()}
        with torch.autocast(access.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            losses = self.losses(access, leaves, rows, step).to(next(iter(leaves.values())).dtype)
        # The sum, so that a row's gradient does not depend on how many share its batch.
        slopes = torch.autograd.grad(losses.sum() / self.batch_reference, list(leaves.values()))
        return losses.detach(), dict(zip(leaves, slopes, strict=True))

    def _measure(self, access: Access[Oracle], variables: Variables, rows: Rows, step: int) -> None:
        """Learn what a row costs, without counting it as a query."""
        few, queries = slice(0, PROBE_ROWS), access.target.queries
        leaves = {name: own[few].detach().requires_grad_(True) for name, own in variables.items()}
        access.parts.measure(lambda: self.losses(access, leaves, rows[few], step), len(rows[few]))
        access.target.queries = queries


class WhiteBoxAttack(GradientAttack[WhiteBoxOracle]):
    """A gradient attack that backpropagates through the target model."""

    oracle: ClassVar[type[LabelOracle]] = WhiteBoxOracle


def _joined(parts: list[tuple[Tensor, Variables]]) -> tuple[Tensor, Variables]:
    """Losses and gradients of all parts as if they had been one."""
    losses = torch.cat([own for own, _ in parts])
    return losses, {name: torch.cat([own[name] for _, own in parts]) for name in parts[0][1]}
