"""The moving average of a network's parameters, which can take their place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from workloads.core.checkpoints import State
from workloads.models.base import Classifier


class MovingAverage:
    """Exponential moving average of the parameters; buffers are those of the last step."""

    def __init__(self, model: Classifier, decay: float) -> None:
        self._decay = decay
        self.weights = _copies(model)

    @torch.no_grad()
    def update(self, model: Classifier) -> None:
        """Move the average towards the model's parameters after a step."""
        parameters = dict(model.named_parameters())
        averages = [self.weights[name] for name in parameters]
        torch._foreach_lerp_(averages, list(parameters.values()), 1 - self._decay)

    def copy_to(self, model: Classifier) -> None:
        """Put the average into the model."""
        _load(model, self.weights)

    @contextmanager
    def in_place(self, model: Classifier) -> Iterator[None]:
        """While the block runs, the model has its averaged weights."""
        current = _copies(model)
        self.copy_to(model)
        yield
        _load(model, current)


def _copies(model: Classifier) -> State:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@torch.no_grad()
def _load(model: Classifier, weights: State) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(weights[name])
