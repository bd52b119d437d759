"""The unit of a number, which follows from its name: what a Parquet column and a report say beside it."""

from __future__ import annotations

FRACTION = "fraction in [0, 1]"
SQUARED_DISTANCE = "squared L2 distance"
RELATIVE_DISTANCE = "squared distance, 1 between private images"


def unit_of(name: str) -> str | None:
    """The unit of a number by its name, with or without its attack; None if it has no known unit."""
    metric = name.rpartition(".")[2]
    if metric.partition("_top")[0].endswith("accuracy"):
        return FRACTION
    if metric == "knn_distance":
        return RELATIVE_DISTANCE
    return SQUARED_DISTANCE if metric.endswith("_distance") or metric.startswith("delta_") else None
