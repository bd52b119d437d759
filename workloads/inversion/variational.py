"""Families of distributions over latents, one distribution per row: samples, and the divergence from the prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from workloads.inversion.optimizers import Variables
from workloads.inversion.rows import Rows
from workloads.inversion.stacked_networks import draw_layers, run_layers


class Family(Protocol):
    """A family of distributions; the parameters of each row's distribution are variables."""

    def begin(self, rows: Rows) -> Variables:
        """Parameters of the standard normal distribution, for each row."""

    def draw(self, variables: Variables, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Latents made from standard normal noise, and KL(q || N(0, I)) of each row, exact or estimated on them.

        Shape: (B, N, Z) to (B, N, Z), (B,).
        """


@dataclass(frozen=True)
class Gaussian(Family):
    """Independent normal numbers, each with its own mean and standard deviation."""

    size: int
    """Numbers in a latent."""

    def begin(self, rows: Rows) -> Variables:
        """Mean and log standard deviation 0."""
        shape, device = (len(rows), self.size), rows.identities.device
        return {name: torch.zeros(shape, device=device) for name in ("mean", "log_std")}

    def draw(self, variables: Variables, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled and shifted noise, and the exact divergence."""
        mean, log_std = variables["mean"], variables["log_std"]
        divergence = (mean.square() + (2 * log_std).exp() - 1).sum(1) / 2 - log_std.sum(1)
        return mean[:, None] + log_std.exp()[:, None] * noise, divergence


@dataclass(frozen=True)
class Flow(Family):
    """A normalising flow: blocks of scale and shift, a fixed permutation, and an additive coupling.

    A coupling adds to one half of the numbers the output of a small network of the other half. The network's last layer
    begins at 0, so each distribution begins as the standard normal one.

    Source: Kingma and Dhariwal, "Glow", NeurIPS 2018, section 3, with fixed permutations and additive coupling as in
    Wang et al., "Variational Model Inversion Attacks", NeurIPS 2021.
    """

    permutations: Tensor
    """A permutation of the numbers for each block, the same for all rows. Shape: (blocks, Z)."""
    hidden: int
    """Width of the coupling networks."""

    def begin(self, rows: Rows) -> Variables:
        """Coupling networks whose last layer is 0, and neutral scales and shifts."""
        blocks, size = self.permutations.shape
        sizes = (size // 2, self.hidden, self.hidden, size - size // 2)
        variables: Variables = {}
        for block in range(blocks):
            coupling = draw_layers(rows, sizes, "coupling", block, last=0.0)
            variables |= {f"{block}.coupling.{name}": weights for name, weights in coupling.items()}
            neutral = torch.zeros(len(rows), size, device=rows.identities.device)
            variables |= {f"{block}.{name}": neutral.clone() for name in ("log_scale", "shift")}
        return variables

    def draw(self, variables: Variables, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Noise through all blocks, and the divergence estimated on it."""
        latents, log_volume = noise, noise.new_zeros(len(noise))
        for block, permutation in enumerate(self.permutations):
            log_scale = variables[f"{block}.log_scale"]
            latents = (latents + variables[f"{block}.shift"][:, None]) * log_scale.exp()[:, None]
            log_volume = log_volume + log_scale.sum(1)  # permutation and coupling keep volumes
            latents = self._coupled(variables, block, latents[:, :, permutation])
        # log q(latents) - log p(latents), where q is the density of the noise over the volume it was stretched to
        divergence = (latents.square() - noise.square()).sum(2).mean(1) / 2 - log_volume
        return latents, divergence

    def _coupled(self, variables: Variables, block: int, latents: Tensor) -> Tensor:
        prefix = f"{block}.coupling."
        network = {name.removeprefix(prefix): value for name, value in variables.items() if name.startswith(prefix)}
        half = latents.shape[2] // 2
        still, moved = latents[:, :, :half], latents[:, :, half:]
        return torch.cat((still, moved + run_layers(network, still, F.elu)), 2)
