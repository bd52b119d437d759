"""Operators of a genetic search: parents by fitness, crossover gene by gene, mutation, and the elite that stays."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workloads.core.cumulative_sum import cumulative_sum
from workloads.core.randomness import Draws

TINY = 1e-30  # added to probabilities, so that no weight is 0 over 0


@dataclass(frozen=True)
class GenerationDraws:
    """The random numbers of one generation, uniform in [0, 1).

    Shape: parents (B, 2, N - 1); crossover, mutated and amount (B, N - 1, S).
    """

    parents: Tensor
    crossover: Tensor
    mutated: Tensor
    amount: Tensor

    @staticmethod
    def of(draws: Draws, *, children: int, genes: int) -> GenerationDraws:
        """The numbers of a generation of each row's population."""
        parents = draws.named("parents").uniform(2 * children).unflatten(1, (2, children))
        per_gene = draws.named("genes").uniform(3 * children * genes).unflatten(1, (3, children, genes))
        return GenerationDraws(parents, *per_gene.unbind(1))

    def to(self, like: Tensor) -> GenerationDraws:
        """The same numbers with the type and device of another tensor."""
        numbers = (self.parents, self.crossover, self.mutated, self.amount)
        return GenerationDraws(*(number.to(like) for number in numbers))


def parents_of(fitness: Tensor, draws: Tensor) -> Tensor:
    """Members drawn in proportion to their fitness. Shape: (B, N), (B, ..., M) in [0, 1) to (B, ..., M) int64."""
    rising = cumulative_sum(fitness + TINY)
    thresholds = draws.flatten(1) * rising[:, -1:]
    return torch.searchsorted(rising, thresholds, right=True).clamp(max=fitness.shape[1] - 1).view_as(draws)


def crossed(population: Tensor, fitness: Tensor, draws: GenerationDraws, *, worse_first: bool = False) -> Tensor:
    """Children that take each gene from either parent, more often from the fitter one.

    Args:
        population: (B, N, S).
        fitness: (B, N), probabilities of the identity.
        worse_first: weight parents by log probabilities, which are negative, so that the less fit parent gives more
            genes.

    Shape: to (B, N - 1, S).
    """
    parents = parents_of(fitness, draws.parents)
    first, second = (population.gather(1, index[..., None].expand_as(draws.crossover)) for index in parents.unbind(1))
    weights = (fitness + TINY).log() if worse_first else fitness + TINY
    first_weight, second_weight = (weights.gather(1, index)[..., None] for index in parents.unbind(1))
    return torch.where(draws.crossover < first_weight / (first_weight + second_weight), first, second)


def mutated(points: Tensor, draws: GenerationDraws, *, probability: float, reach: Tensor) -> Tensor:
    """Points with some genes moved by up to `reach`, either way. Shape: (B, M, S), reach (1, S), to (B, M, S)."""
    return points + (draws.mutated < probability) * (2 * draws.amount - 1) * reach


def fittest_first(population: Tensor, fitness: Tensor) -> tuple[Tensor, Tensor]:
    """Population and fitness in order of falling fitness. Shape: (B, N, S), (B, N), kept."""
    fitness, order = torch.sort(fitness, dim=1, descending=True, stable=True)
    return population.gather(1, order[..., None].expand_as(population)), fitness
