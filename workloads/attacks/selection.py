"""Which latents an attacker begins with, and which images he would show: the target chooses, never the judge."""

from __future__ import annotations

import torch
from torch import Tensor

from workloads.attacks.rows import Rows
from workloads.attacks.views import View
from workloads.oracles import LabelOracle


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
        total += target.confidence(view(images, list(rows.generators("robust", number))), identities)
    return total / views


def best_of_pool(confidences: Tensor, identities: Tensor, *, count: int) -> Tensor:
    """For each identity the distinct pool entries with the largest confidence in it, best first.

    Shape: confidences (P, C), identities (I,) to (I, count) int64.
    """
    return confidences[:, identities].topk(count, dim=0).indices.T
