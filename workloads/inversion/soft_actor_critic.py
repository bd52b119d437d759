"""Soft actor-critic agents, one per row, for episodes that end after their first action."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from workloads.core.checkpoints import State
from workloads.inversion.optimizers import Adam, Rates, Variables
from workloads.inversion.rows import Rows
from workloads.inversion.stacked_networks import draw_layers, run_layers

LOG_STD = (-20.0, 2.0)
LAST_LAYER = 3e-3  # last layers begin so small that the first policy and the first values are nearly flat


@dataclass(frozen=True)
class SoftActorCritic:
    """How agents act and learn. What they have learned is a `State` with one entry per row.

    The value of an action is its reward, so critics learn rewards; the discount and the target networks of the general
    case would have no effect. Actions lie in (-1, 1), and the policy aims at the entropy -size.

    Source: Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", 2018, algorithm 1 and appendix C.
    """

    size: int
    """Numbers in a state and in an action."""
    hidden: int
    """Width of all networks."""
    lr: float
    """Learning rate of all networks."""
    critics: tuple[str, ...] = ("critic_1", "critic_2")
    """Names of the critics; the smallest of their values counts."""
    averaged: bool = False
    """Average the log-probabilities over dimensions, although they should be summed."""
    shared_noise: bool = False
    """Use one number of noise for all dimensions and a whole batch."""

    def begin(self, rows: Rows) -> State:
        """Agents before their first action."""
        wide = (self.hidden, self.hidden)
        sizes = {"actor": (self.size, *wide, 2 * self.size)} | dict.fromkeys(self.critics, (2 * self.size, *wide, 1))
        networks = {name: draw_layers(rows, widths, name, last=LAST_LAYER) for name, widths in sizes.items()}
        networks["temperature"] = {"log": torch.zeros(len(rows), device=rows.identities.device)}
        memory = {name: Adam(self.lr).begin(weights) for name, weights in networks.items()}
        return {"networks": networks, "memory": memory}

    def act(self, agents: State, states: Tensor, noise: Tensor) -> Tensor:
        """Actions drawn by the policies; the most likely ones where noise is 0. Shape: (B, N, size), all three."""
        return self._sample(agents["networks"]["actor"], states, noise)[0]

    def learn(
        self, agents: State, states: Tensor, actions: Tensor, rewards: Tensor, *, noise: Tensor, rates: Rates
    ) -> State:
        """Agents after a step of all their networks; `rates` are those of the step.

        Shape: states, actions and noise (B, N, size), rewards (B, N).
        """
        for name in self.critics:
            leaves = _leaves(agents["networks"][name])
            errors = (_values(leaves, states, actions) - rewards).square().mean(1) / 2
            agents = self._moved(agents, name, _gradients(errors, leaves), rates)
        return self._improved(agents, states, noise, rates)

    def _improved(self, agents: State, states: Tensor, noise: Tensor, rates: Rates) -> State:
        """Policies moved towards actions the critics value, and temperatures towards the entropy that is aimed at."""
        networks = agents["networks"]
        leaves, temperature = _leaves(networks["actor"]), networks["temperature"]["log"].exp()
        actions, log_prob = self._sample(leaves, states, noise)
        values = torch.stack([_values(networks[name], states, actions) for name in self.critics]).amin(0)
        costs = (temperature[:, None] * log_prob - values).mean(1)
        agents = self._moved(agents, "actor", _gradients(costs, leaves), rates)
        missing_entropy = log_prob.detach().mean(1) - self.size
        return self._moved(agents, "temperature", {"log": -missing_entropy}, rates)

    def _moved(self, agents: State, name: str, gradients: Variables, rates: Rates) -> State:
        networks, memory = agents["networks"], agents["memory"]
        weights, moments = Adam(self.lr).step(networks[name], gradients, memory[name], rates)
        return {"networks": {**networks, name: weights}, "memory": {**memory, name: moments}}

    def _sample(self, actor: Variables, states: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions and their log-probabilities. Shape: (B, N, size), (B, N)."""
        mean, log_std = run_layers(actor, states, F.relu).chunk(2, -1)
        log_std = log_std.clamp(*LOG_STD)
        noise = noise[:, :1, :1] if self.shared_noise else noise
        sample = mean + log_std.exp() * noise
        normal = -noise.square() / 2 - log_std - math.log(2 * math.pi) / 2
        squashing = 2 * (math.log(2) - sample - F.softplus(-2 * sample))  # log(1 - tanh^2), safe where tanh rounds to 1
        log_prob = normal - squashing
        return sample.tanh(), log_prob.mean(-1) if self.averaged else log_prob.sum(-1)


def _values(critic: Variables, states: Tensor, actions: Tensor) -> Tensor:
    """The value of each action. Shape: (B, N, size), (B, N, size) to (B, N)."""
    return run_layers(critic, torch.cat((states, actions), -1), F.relu).squeeze(-1)


def _leaves(weights: Variables) -> Variables:
    return {name: weight.detach().requires_grad_(True) for name, weight in weights.items()}


def _gradients(losses: Tensor, leaves: Variables) -> Variables:
    """Gradients of each row's loss."""
    return dict(zip(leaves, torch.autograd.grad(losses.sum(), list(leaves.values())), strict=True))
