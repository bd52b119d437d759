"""How variables move down a gradient: rules whose state is one row a reconstruction, so that any rows share a batch.

A rule is a value; what it remembers is handed in and out, so that rows can leave and a search can be stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from workloads.core.checkpoints import State

Variables = dict[str, Tensor]
"""What is optimised, by name; every tensor has one entry a row."""


class Rule(Protocol):
    def begin(self, variables: Variables) -> State:
        """What the rule remembers before its first step: tensors with one entry a row."""

    def step(self, variables: Variables, gradients: Variables, memory: State, step: int) -> tuple[Variables, State]:
        """Variables and memory after a step, counted from 0."""


@dataclass(frozen=True)
class Nesterov:
    """Nesterov's accelerated gradient as GMI writes it; it equals torch's SGD(nesterov=True).

    v' = m v - lr g;  z' = z - m v + (1 + m) v'

    Source: Zhang et al., "The Secret Revealer", CVPR 2020, the authors' code.
    """

    lr: float
    momentum: float

    def begin(self, variables: Variables) -> State:
        return {name: torch.zeros_like(own) for name, own in variables.items()}

    def step(self, variables: Variables, gradients: Variables, memory: State, step: int) -> tuple[Variables, State]:
        velocity = {name: self.momentum * memory[name] - self.lr * gradients[name] for name in variables}
        moved = {
            name: own - self.momentum * memory[name] + (1 + self.momentum) * velocity[name]
            for name, own in variables.items()
        }
        return moved, velocity


@dataclass(frozen=True)
class Momentum:
    """Gradient descent with momentum as torch's SGD has it: v' = m v + g;  z' = z - lr v'."""

    lr: float
    momentum: float

    def begin(self, variables: Variables) -> State:
        return {name: torch.zeros_like(own) for name, own in variables.items()}

    def step(self, variables: Variables, gradients: Variables, memory: State, step: int) -> tuple[Variables, State]:
        velocity = {name: self.momentum * memory[name] + gradients[name] for name in variables}
        return {name: own - self.lr * velocity[name] for name, own in variables.items()}, velocity


def constant(step: int) -> float:
    return 1.0


@dataclass(frozen=True)
class Adam:
    """Adam, whose every number is its own row's: torch's formula.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1.
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    schedule: Callable[[int], float] = constant
    """Factor of the learning rate at a step counted from 0."""

    def begin(self, variables: Variables) -> State:
        return {
            moment: {name: torch.zeros_like(own) for name, own in variables.items()} for moment in ("first", "second")
        }

    def step(self, variables: Variables, gradients: Variables, memory: State, step: int) -> tuple[Variables, State]:
        slow, slower = self.betas
        first = {name: memory["first"][name].lerp(own, 1 - slow) for name, own in gradients.items()}
        second = {
            name: slower * memory["second"][name] + (1 - slower) * own.square() for name, own in gradients.items()
        }
        lr = self.lr * self.schedule(step) / (1 - slow ** (step + 1))
        correction = (1 - slower ** (step + 1)) ** 0.5
        moved = {
            name: own - lr * first[name] / (second[name].sqrt() / correction + self.eps)
            for name, own in variables.items()
        }
        return moved, {"first": first, "second": second}


@dataclass(frozen=True)
class Afresh:
    """A rule that counts its steps anew from each of some steps on, where its memory was begun anew too."""

    rule: Rule
    starts: tuple[int, ...]

    def begin(self, variables: Variables) -> State:
        return self.rule.begin(variables)

    def step(self, variables: Variables, gradients: Variables, memory: State, step: int) -> tuple[Variables, State]:
        began = max(start for start in self.starts if start <= step)
        return self.rule.step(variables, gradients, memory, step - began)


def steps_down(milestones: tuple[int, ...], factor: float) -> Callable[[int], float]:
    """A schedule that multiplies the learning rate by `factor` after each of these numbers of steps."""
    return lambda step: factor ** sum(step >= milestone for milestone in milestones)
