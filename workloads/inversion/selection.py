"""Which latents an attacker begins with, and which images he would show: the target chooses, never the judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor

from workloads.inversion.rows import Rows
from workloads.observation.oracles import LabelOracle
from workloads.observation.views import View


def best_of_each(scores: Tensor, identities: Tensor, *, keep: int) -> Tensor:
    """True for the `keep` rows of each identity with the largest scores.

    Shape: (R,), (R,) to (R,) bool.
    """
    kept = torch.zeros(len(scores), dtype=torch.bool)
    for identity in identities.unique().tolist():
        own = (identities == identity).nonzero().flatten()
        kept[own[scores[own].topk(min(keep, len(own))).indices]] = True
    return kept


@torch.no_grad()
def robust_confidence(target: LabelOracle, images: Tensor, rows: Rows, *, views: int, view: View) -> Tensor:
    """The target's mean confidence in each image's identity over random views: high only where much of it convinces.

    Shape: (B, C, H, W) in [0, 1], on the target's device, to (B,).
    Source: Struppek et al., "Plug & Play Attacks", ICML 2022, section 3.3.
    """
    identities, total = rows.identities.to(images.device), images.new_zeros(len(images))
    for number in range(views):
        total += target.confidence(view(images, list(rows.generators("robust", number, alike=view.alike))), identities)
    return total / views


def best_of_pool(confidences: Tensor, identities: Tensor, *, count: int) -> Tensor:
    """For each identity the distinct pool entries with the largest confidence in it, best first.

    Shape: confidences (P, C), identities (I,) to (I, count) int64.
    """
    return confidences[:, identities].topk(count, dim=0).indices.T


def in_widest_agreement(logits: Tensor, identities: Tensor) -> Tensor:
    """True for one row of each identity: the best of the most rows that agree on which classes come next to it.

    Among rows that the identity leads, the largest group of two or more counts whose other labels among the first five
    have two in common, or one if no group has two; the row with the largest logit of the identity is taken from it,
    and from all rows where there is no such group.

    Shape: (R, classes), (R,) to (R,) bool.
    Source: An et al., "MIRROR", NDSS 2022, the authors' code.
    """
    chosen = torch.zeros(len(identities), dtype=torch.bool)
    leading = logits.topk(min(5, logits.shape[1]), dim=1).indices
    for identity in identities.unique().tolist():
        own = (identities == identity).nonzero().flatten()
        names = {row: leading[row, 1:].tolist() for row in own.tolist() if leading[row, 0] == identity}
        group = torch.tensor(_widest_agreement(names, 2) or _widest_agreement(names, 1) or own.tolist())
        chosen[group[logits[group, identity].argmax()]] = True
    return chosen


def _widest_agreement(labels: Mapping[int, Sequence[int]], common: int) -> list[int]:
    """The largest group of two rows or more that have so many labels in common, the first in order of several."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, own in labels.items():
        for shared in combinations(sorted(own), common):
            groups.setdefault(shared, []).append(row)
    return min((own for own in groups.values() if len(own) > 1), key=lambda own: (-len(own), own), default=[])
