"""Points for metrics of sets, and precision, recall, density and coverage by scikit-learn's neighbour queries."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from workloads.core.randomness import generator


def points(name: str, rows: int, features: int = 4) -> Tensor:
    return torch.randn(rows, features, dtype=torch.float64, generator=generator("test", name))


def hits(real: Tensor, reconstructed: Tensor, k: int) -> list[int]:
    """How many reconstructions lie in the ball of each private image."""
    radii = NearestNeighbors(n_neighbors=k + 1).fit(real).kneighbors(real)[0][:, -1]
    tree = NearestNeighbors().fit(reconstructed)
    return [
        len(tree.radius_neighbors([centre], radius=radius)[1][0]) for centre, radius in zip(real, radii, strict=True)
    ]


def by_scikit_learn(real: Tensor, reconstructed: Tensor, k: int) -> tuple[float, float, float, float]:
    """Precision, recall, density and coverage."""
    counts = np.array(hits(real, reconstructed, k))
    precision, recall = within_any(real, reconstructed, k), within_any(reconstructed, real, k)
    return precision, recall, counts.sum() / (k * len(reconstructed)), float((counts > 0).mean())


def within_any(centres: Tensor, queries: Tensor, k: int) -> float:
    """Share of queries within the ball of any centre, which reaches to that centre's k-th nearest neighbour."""
    radii = NearestNeighbors(n_neighbors=k + 1).fit(centres).kneighbors(centres)[0][:, -1]
    distances, places = NearestNeighbors(n_neighbors=len(centres)).fit(centres).kneighbors(queries)
    return float((distances <= radii[places]).any(1).mean())
