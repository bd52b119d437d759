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
    radii = [
        NearestNeighbors(n_neighbors=k + 1).fit(features).kneighbors(features)[0][:, -1]
        for features in (real, reconstructed)
    ]
    to_real, nearest_real = NearestNeighbors(n_neighbors=1).fit(real).kneighbors(reconstructed)
    to_reconstructed, nearest_reconstructed = NearestNeighbors(n_neighbors=1).fit(reconstructed).kneighbors(real)
    precision = (to_real[:, 0] <= radii[0][nearest_real[:, 0]]).mean()
    recall = (to_reconstructed[:, 0] <= radii[1][nearest_reconstructed[:, 0]]).mean()
    counts = np.array(hits(real, reconstructed, k))
    return float(precision), float(recall), counts.sum() / (k * len(reconstructed)), float((counts > 0).mean())
