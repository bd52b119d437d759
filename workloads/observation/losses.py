"""Losses that an attack descends on: each gives one loss per image, never a batch mean.

Shape, everywhere: logits (B, C), identities (B,) int64 to (B,); smaller looks more like the identity. Logits in half
precision are compared in single precision.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from workloads.core.numerics import at_least_fp32

POINCARE_RIM = 1e-4  # distance of the aimed-at point from the edge of the ball, where distances are infinite


def cross_entropy(logits: Tensor, identities: Tensor) -> Tensor:
    """Minus the logarithm of the probability of the identity."""
    return F.cross_entropy(at_least_fp32(logits), identities, reduction="none")


def logit(logits: Tensor, identities: Tensor) -> Tensor:
    """Minus the logit of the identity, which does not flatten where its probability nears 1.

    Source: Nguyen et al., "Re-thinking Model Inversion Attacks", CVPR 2023, section 4.1.
    """
    return -at_least_fp32(logits).gather(1, identities[:, None]).flatten()


def margin(logits: Tensor, identities: Tensor) -> Tensor:
    """The largest other logit minus the identity's.

    Source: Yuan et al., "Pseudo Label-Guided Model Inversion Attack", AAAI 2023, equation 3.
    """
    others = at_least_fp32(logits).scatter(1, identities[:, None], -torch.inf)
    return others.amax(1) + logit(logits, identities)


def poincare(logits: Tensor, identities: Tensor) -> Tensor:
    """Distance in the Poincare ball between logits over their L1 norm and a point near the identity's corner.

    Source: Struppek et al., "Plug & Play Attacks", ICML 2022, section 3.2. The authors' float32 rounds the corner,
    which lowers every value by 2e-4 and leaves gradients alone.
    """
    logits = at_least_fp32(logits)
    point = logits / logits.abs().sum(1, keepdim=True)
    classes = torch.arange(logits.shape[1], device=logits.device)
    corner = (1 - POINCARE_RIM) * (classes == identities[:, None]).to(logits)  # torch's `one_hot` looks at its input
    room = (1 - point.square().sum(1)) * (1 - (1 - POINCARE_RIM) ** 2)
    return torch.acosh(1 + 2 * (point - corner).square().sum(1) / room)


LOSSES = {"cross_entropy": cross_entropy, "logit": logit, "margin": margin, "poincare": poincare}
