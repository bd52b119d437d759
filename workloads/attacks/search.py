"""How latents move: update rules whose state is one row a latent, so that any rows may share a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from workloads.checkpoints import State


class BoxedNesterov:
    """Nesterov's accelerated gradient, written as GMI writes it, then a clamp that leaves the velocity alone.

    v' = m v - lr g;  z' = clamp(z - m v + (1 + m) v', -bound, bound)

    The start is not clamped, so the first image may lie outside the box.

    Source: Zhang et al., CVPR 2020, the authors' code; it equals torch's SGD(nesterov=True) followed by a clamp.
    """

    def __init__(self, start: Tensor, *, lr: float, momentum: float, bound: float) -> None:
        self.latents = start
        self.velocity = torch.zeros_like(start)
        self._lr, self._momentum, self._bound = lr, momentum, bound

    def step(self, gradient: Tensor) -> None:
        before = self.velocity
        self.velocity = self._momentum * before - self._lr * gradient
        moved = self.latents - self._momentum * before + (1 + self._momentum) * self.velocity
        self.latents = moved.clamp(-self._bound, self._bound)

    def state(self) -> State:
        return {"latents": self.latents, "velocity": self.velocity}

    def restore(self, state: State) -> None:
        self.latents, self.velocity = (state[name].to(self.latents) for name in ("latents", "velocity"))
