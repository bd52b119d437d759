"""Which reconstructions of an identity an attacker would show: chosen by the target model, never by the judge."""

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
