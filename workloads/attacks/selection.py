"""Which latents an attacker begins with, and which images he would show: the target chooses, never the judge."""

from __future__ import annotations

import torch
from torch import Tensor


def best_of_each(scores: Tensor, identities: Tensor, *, keep: int) -> Tensor:
    """True for the `keep` rows of each identity with the largest scores.

    Shape: (R,), (R,) to (R,) bool.
    """
    kept = torch.zeros(len(scores), dtype=torch.bool)
    for identity in identities.unique().tolist():
        own = (identities == identity).nonzero().flatten()
        kept[own[scores[own].topk(min(keep, len(own))).indices]] = True
    return kept


def best_of_pool(confidences: Tensor, identities: Tensor, *, count: int) -> Tensor:
    """For each identity the distinct pool entries with the largest confidence in it, best first.

    Shape: confidences (P, C), identities (I,) to (I, count) int64.
    """
    return confidences[:, identities].topk(count, dim=0).indices.T
