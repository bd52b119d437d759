"""Ranking and choosing starts and reconstructions by the target model; the evaluation model has no part in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import torch
from torch import Tensor

from workloads.inversion.rows import Rows
from workloads.observation.oracles import LabelOracle
from workloads.observation.views import View


class Ranking(Protocol):
    """How an attacker ranks the reconstructions of an identity, of which the best are kept."""

    @property
    def name(self) -> str:
        """What ranks them, in words."""

    def scores(self, target: LabelOracle, images: Tensor, rows: Rows) -> Tensor:
        """Larger is better. Shape: (B, C, H, W) in [0, 1], on the target's device, to (B,)."""


@dataclass(frozen=True)
class TargetScore(Ranking):
    """Ranks by the largest figure for the identity that the attacker's access to the target model yields."""

    name: str = "target score"

    def scores(self, target: LabelOracle, images: Tensor, rows: Rows) -> Tensor:
        """The oracle's score of the identity."""
        return target.score(images, rows.identities)


@dataclass(frozen=True)
class MeanConfidence(Ranking):
    """Ranks by the target's mean confidence over random views."""

    views: int
    """Random views per image."""
    view: View
    name: str = "mean confidence over random views"

    def scores(self, target: LabelOracle, images: Tensor, rows: Rows) -> Tensor:
        """The mean confidence over the views."""
        return robust_confidence(target, images, rows, views=self.views, view=self.view)


def best_of_each(scores: Tensor, identities: Tensor, *, keep: int) -> Tensor:
    """True for the `keep` rows of each identity with the largest scores.

    Shape: (R,), (R,) to (R,) bool.
    """
    kept = torch.zeros(len(scores), dtype=torch.bool)
    for identity in identities.unique().tolist():
        rows = (identities == identity).nonzero().flatten()
        kept[rows[scores[rows].topk(min(keep, len(rows))).indices]] = True
    return kept


@torch.no_grad()
def robust_confidence(target: LabelOracle, images: Tensor, rows: Rows, *, views: int, view: View) -> Tensor:
    """The target's mean confidence in each image's identity over random views.

    It is high only for images that convince the target model in most of their parts.

    Shape: (B, C, H, W) in [0, 1], on the target's device, to (B,).
    Source: Struppek et al., "Plug & Play Attacks", ICML 2022, section 3.3.
    """
    identities, total = rows.identities, images.new_zeros(len(images))
    for number in range(views):
        total += target.confidence(view(images, rows.draws("robust", number)), identities)
    return total / views


def best_of_pool(confidences: Tensor, identities: Tensor, *, count: int) -> Tensor:
    """For each identity the distinct pool entries with the largest confidence in it, best first.

    Shape: confidences (P, C), identities (I,) to (I, count) int64.
    """
    return confidences[:, identities].topk(count, dim=0).indices.T


def in_widest_agreement(logits: Tensor, identities: Tensor) -> Tensor:
    """True for one row of each identity: the best row of the largest group that agrees on which classes come next.

    Among the rows whose largest logit is the identity's, a group is two or more rows whose other labels among the
    first five have two in common, or one if no group has two. The row with the largest logit of the identity is taken
    from the largest group, and from all rows if there is no group.

    Shape: (R, classes), (R,) to (R,) bool.
    Source: An et al., "MIRROR", NDSS 2022, the authors' code.
    """
    chosen = torch.zeros(len(identities), dtype=torch.bool)
    leading = logits.topk(min(5, logits.shape[1]), dim=1).indices
    for identity in identities.unique().tolist():
        rows = (identities == identity).nonzero().flatten().tolist()
        labels = {row: leading[row, 1:].tolist() for row in rows if leading[row, 0] == identity}
        group = torch.tensor(_widest_agreement(labels, 2) or _widest_agreement(labels, 1) or rows)
        chosen[group[logits[group, identity].argmax()]] = True
    return chosen


def _widest_agreement(labels: Mapping[int, Sequence[int]], common: int) -> list[int]:
    """The largest group of two or more rows that share `common` labels; the first in order if several are as large."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, row_labels in labels.items():
        for shared in combinations(sorted(row_labels), common):
            groups.setdefault(shared, []).append(row)
    large = (rows for rows in groups.values() if len(rows) > 1)
    return min(large, key=lambda rows: (-len(rows), rows), default=[])
