"""Negative label smoothing: give wrong classes targets below 0, so that logits show attacks less of the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field

from workloads.defenses.base import DEFENSES, Batch, Defense, DefenseConfig


class NegativeLabelSmoothingConfig(DefenseConfig):
    """How much to smooth the targets, and when."""

    kind: Literal["negative_label_smoothing"] = "negative_label_smoothing"
    smoothing: Annotated[float, Field(lt=1)] = -0.05
    """Part of the target that is spread over all classes. Below 0 it is taken away from them, which is the defense;
    above 0 it is ordinary label smoothing."""
    schedule: Literal["delayed", "none"] = "delayed"
    """`delayed`: no smoothing for half of the epochs, then a ramp up to half of it at three quarters, then all of it,
    with the jump that the published code has. `none`: all of it from the start, as in the code published until August
    2024. Positive smoothing always acts from the start."""


@DEFENSES.register(NegativeLabelSmoothingConfig)
class NegativeLabelSmoothing(Defense):
    """Train on targets smoothed by a negative amount, late in the training.

    Loss: (1 - a) times the cross-entropy plus a times its mean over all classes, with a below 0.

    Source: Struppek et al., "Be Careful What You Smooth For", ICLR 2024.
    """

    config: NegativeLabelSmoothingConfig
    _smoothing = 0.0

    def begin_epoch(self, epoch: int) -> None:
        """The smoothing of this epoch, by the schedule."""
        self._smoothing = self.config.smoothing * share(self.config, epoch, epochs=self.facts.epochs)

    def prepare(self, batch: Batch, *, generator: torch.Generator) -> Batch:
        """Mix labels with the uniform distribution, by the smoothing of the epoch."""
        classes = batch.targets.shape[1]
        return replace(batch, targets=(1 - self._smoothing) * batch.targets + self._smoothing / classes)


def share(config: NegativeLabelSmoothingConfig, epoch: int, *, epochs: int) -> float:
    """The fraction of the smoothing that acts in an epoch, which is counted from 0.

    >>> [round(share(NegativeLabelSmoothingConfig(), epoch, epochs=100), 2) for epoch in (49, 50, 74, 75)]
    [0.0, 0.02, 0.5, 1.0]
    """
    if config.schedule == "none" or config.smoothing > 0 or epoch >= int(epochs * 0.75):
        return 1.0
    half = epochs // 2
    return (epoch - half + 1) / (epochs - half) if epoch >= half else 0.0
