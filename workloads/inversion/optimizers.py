"""Update rules that move variables down a gradient, row by row, so that any rows may share a batch.

An update rule is a value without state: what it remembers is passed in and returned, so that rows can leave a batch and
a search can be stored. What changes with the number of the step is computed by the host and passed in as well, so that
a step can be recorded once and repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from workloads.core.checkpoints import State

Variables = dict[str, Tensor]
"""What is optimised, by name; every tensor has one entry per row."""


Rates = Sequence[float | Tensor]
"""Numbers of a step, or float64 tensors that hold one each."""


class UpdateRule(Protocol):
    """How variables move, given their gradients."""

    def begin(self, variables: Variables) -> State:
        """What the rule remembers before its first step: tensors with one entry per row."""

    def rates(self, step: int) -> tuple[float, ...]:
        """What changes with the number of a step, counted from 0, such as a learning rate; nothing by default."""
        return ()

    def step(self, variables: Variables, gradients: Variables, memory: State, rates: Rates) -> tuple[Variables, State]:
        """Variables and memory after a step; `rates` are those of its number."""


@dataclass(frozen=True)
class Descent:
    """How an attack weights its losses and moves its variables."""

    rule: UpdateRule
    identity_weight: float = 1.0
    """Weight of the objective; losses of the prior have weight 1."""
    batch_reference: int = 1
    """Divisor of the summed losses. The authors divide by their batch size, so it sets the size of a step."""


@dataclass(frozen=True)
class Nesterov(UpdateRule):
    """Nesterov's accelerated gradient as GMI writes it; it equals torch's SGD(nesterov=True).

    v' = m v - lr g;  z' = z - m v + (1 + m) v'

    Source: Zhang et al., "The Secret Revealer", CVPR 2020, the authors' code.
    """

    lr: float
    momentum: float

    def begin(self, variables: Variables) -> State:
        """A velocity of 0 for every variable."""
        return {name: torch.zeros_like(variable) for name, variable in variables.items()}

    def step(self, variables: Variables, gradients: Variables, memory: State, rates: Rates) -> tuple[Variables, State]:
        """One accelerated step; the memory is the velocity."""
        velocity = {name: self.momentum * memory[name] - self.lr * gradients[name] for name in variables}
        moved = {
            name: variable - self.momentum * memory[name] + (1 + self.momentum) * velocity[name]
            for name, variable in variables.items()
        }
        return moved, velocity


@dataclass(frozen=True)
class Momentum(UpdateRule):
    """Gradient descent with momentum as torch's SGD has it: v' = m v + g;  z' = z - lr v'."""

    lr: float
    momentum: float

    def begin(self, variables: Variables) -> State:
        """A velocity of 0 for every variable."""
        return {name: torch.zeros_like(variable) for name, variable in variables.items()}

    def step(self, variables: Variables, gradients: Variables, memory: State, rates: Rates) -> tuple[Variables, State]:
        """One step along the velocity, which is the memory."""
        velocity = {name: self.momentum * memory[name] + gradients[name] for name in variables}
        return {name: variable - self.lr * velocity[name] for name, variable in variables.items()}, velocity


def constant(step: int) -> float:
    """A schedule that leaves the learning rate as it is."""
    return 1.0


@dataclass(frozen=True)
class Adam(UpdateRule):
    """Adam by torch's formula; every number is computed from its own row alone.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1.
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    schedule: Callable[[int], float] = constant
    """Factor of the learning rate at a step counted from 0."""

    def begin(self, variables: Variables) -> State:
        """Both moments at 0."""
        return {
            moment: {name: torch.zeros_like(variable) for name, variable in variables.items()}
            for moment in ("first", "second")
        }

    def rates(self, step: int) -> tuple[float, ...]:
        """The learning rate over the first moment's bias, and the root of the second moment's."""
        beta1, beta2 = self.betas
        return self.lr * self.schedule(step) / (1 - beta1 ** (step + 1)), (1 - beta2 ** (step + 1)) ** 0.5

    def step(self, variables: Variables, gradients: Variables, memory: State, rates: Rates) -> tuple[Variables, State]:
        """One bias-corrected step; the memory is both moments."""
        (beta1, beta2), (lr, correction) = self.betas, rates
        first = {name: memory["first"][name].lerp(gradient, 1 - beta1) for name, gradient in gradients.items()}
        second = {
            name: beta2 * memory["second"][name] + (1 - beta2) * gradient.square()
            for name, gradient in gradients.items()
        }
        moved = {
            name: variable - lr * first[name] / (second[name].sqrt() / correction + self.eps)
            for name, variable in variables.items()
        }
        return moved, {"first": first, "second": second}


@dataclass(frozen=True)
class RestartingRule(UpdateRule):
    """A rule that counts its steps from 0 again at each of some steps, where its memory is begun again as well."""

    rule: UpdateRule
    starts: tuple[int, ...]
    """Steps at which counting begins again; the first is 0."""

    def begin(self, variables: Variables) -> State:
        """What the wrapped rule remembers."""
        return self.rule.begin(variables)

    def rates(self, step: int) -> tuple[float, ...]:
        """Those of the wrapped rule, at the step counted from its last start."""
        return self.rule.rates(step - max(start for start in self.starts if start <= step))

    def step(self, variables: Variables, gradients: Variables, memory: State, rates: Rates) -> tuple[Variables, State]:
        """A step of the wrapped rule."""
        return self.rule.step(variables, gradients, memory, rates)


def steps_down(milestones: tuple[int, ...], factor: float) -> Callable[[int], float]:
    """A schedule that multiplies the learning rate by `factor` after each of these numbers of steps."""
    return lambda step: factor ** sum(step >= milestone for milestone in milestones)
