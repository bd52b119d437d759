"""Points for metrics of sets, and precision, recall, density and coverage by scikit-learn's neighbour queries."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from workloads.core.randomness import generator


def points(name: str, rows: int, features: int = 4) -> Tensor:
    return torch.randn(rows, features, dtype=torch.float64, generator=generator("test", name))


def hits(real: Tensor, made: Tensor, k: int) -> list[int]:
    """How many reconstructions lie in the ball of each private image."""
    radii = NearestNeighbors(n_neighbors=k + 1).fit(real).kneighbors(real)[0][:, -1]
    tree = NearestNeighbors().fit(made)
    return [len(tree.radius_neighbors([own], radius=radius)[1][0]) for own, radius in zip(real, radii, strict=True)]


def by_scikit_learn(real: Tensor, made: Tensor, k: int) -> tuple[float, float, float, float]:
    """Precision, recall, density and coverage."""
    radii = [NearestNeighbors(n_neighbors=k + 1).fit(own).kneighbors(own)[0][:, -1] for own in (real, made)]
    to_real, which_real = NearestNeighbors(n_neighbors=1).fit(real).kneighbors(made)
    to_made, which_made = NearestNeighbors(n_neighbors=1).fit(made).kneighbors(real)
    precision = (to_real[:, 0] <= radii[0][which_real[:, 0]]).mean()
    recall = (to_made[:, 0] <= radii[1][which_made[:, 0]]).mean()
    counts = np.array(hits(real, made, k))
    return float(precision), float(recall), counts.sum() / (k * len(made)), float((counts > 0).mean())
