"""Low-rank features: a linear bottleneck before the last layer."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt
from torch import nn

from workloads.core.errors import ConfigError
from workloads.defenses.base import DEFENSES, Defense, DefenseConfig
from workloads.models.base import Classifier


class LowRankConfig(DefenseConfig):
    """How narrow the bottleneck is."""

    kind: Literal["low_rank"] = "low_rank"
    rank: PositiveInt
    """Number of directions of the features that reach the last layer, below that of the classes and of the features:
    a last layer of more has no lower rank than one without a bottleneck."""

    def change_model(self, model: Classifier) -> None:
        """Put a linear layer of `rank` outputs before the head."""
        if not isinstance(model.head, nn.Linear):
            raise ConfigError(
                f"low_rank divides a linear last layer, and {model.config.kind} has none: use another model."
            )
        width = model.head.in_features
        if self.rank >= min(width, model.classes):
            raise ConfigError(
                f"rank {self.rank} limits nothing for {model.classes} classes and {width} features: give fewer."
            )
        model.head = nn.Sequential(nn.Linear(width, self.rank, bias=False), nn.Linear(self.rank, model.classes))


@DEFENSES.register(LowRankConfig)
class LowRank(Defense):
    """A control of defenses that limit information: logits depend on a few linear combinations of the features.

    The two layers are trained with the network, so that what remains is what tells identities apart best.

    Source: this project; "LoFt" ("Rank Matters", KDD 2026) defends by features of low rank, and publishes no code.
    """

    config: LowRankConfig
