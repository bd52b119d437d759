"""One step of training as a function of tensors on the device: computed, or recorded once and replayed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields

import torch
from torch import Tensor

from workloads.core.cuda_graphs import STEPS_BEFORE_RECORDING, CudaGraphs
from workloads.core.numerics import arithmetic
from workloads.defenses.base import Batch, Defense
from workloads.models.base import Classifier
from workloads.recipes.optimization import TrainingConfig
from workloads.training.average import MovingAverage

Step = Callable[[Batch], Tensor]
"""Takes a step on a batch; returns its loss and how many rows were classified as their target, on the device.

Shape: to (2,) float.
"""


class TrainingStep:
    """Loss, gradients and one step of the optimiser. Nothing in it waits for the device, unless a defense does."""

    def __init__(
        self,
        model: Classifier,
        config: TrainingConfig,
        *,
        optimizer: torch.optim.Optimizer,
        defenses: Sequence[Defense] = (),
        average: MovingAverage | None = None,
    ) -> None:
        self._model, self._config, self._optimizer = model, config, optimizer
        self._defenses, self._average = defenses, average

    def __call__(self, batch: Batch) -> Tensor:
        """Take the step; a loss that is not finite is left for the caller to find. Shape: to (2,)."""
        with arithmetic(self._config.precision, batch.images.device) as forward:
            loss, logits = self._loss_and_logits(batch, forward)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
        if self._config.clip_norm:
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._config.clip_norm)
        self._optimizer.step()
        if self._average:
            self._average.update(self._model)
        correct = (logits.detach().argmax(1) == batch.targets.argmax(1)).sum()
        return torch.stack((loss.detach(), correct.to(loss.dtype)))

    def _loss_and_logits(self, batch: Batch, forward: torch.autocast) -> tuple[Tensor, Tensor]:
        """Cross-entropy of all heads plus the penalties of all defenses; and the logits of the main head.

        The network runs under `forward`.
        """
        images = batch.images
        if self._config.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with forward:
            logits, *auxiliary = self._model.training_logits(images)
        loss = cross_entropy(logits.float(), batch)
        for auxiliary_logits in auxiliary:
            loss = loss + cross_entropy(auxiliary_logits.float(), batch)
        for defense in self._defenses:
            penalty = defense.penalty(batch)
            loss = loss if penalty is None else loss + penalty
        return loss, logits


class RecordedStep:
    """A step that is recorded as a CUDA graph for each shape of batch, and replayed: one launch instead of hundreds.

    Whatever is recorded is computed by a replay alone, so it changes no number of the training. A step that cannot be
    recorded, because a network or library looks at the host, is computed every time.
    """

    def __init__(self, step: Step, device: torch.device) -> None:
        self._step = step
        self._graphs = CudaGraphs(device)
        self._seen: Counter[torch.Size] = Counter()
        self._recordings: dict[torch.Size, _Recording | None] = {}

    def __call__(self, batch: Batch) -> Tensor:
        """Take the step. Shape: to (2,)."""
        with self._graphs.beside():
            return self._take(batch)

    def _take(self, batch: Batch) -> Tensor:
        shape = batch.images.shape
        self._seen[shape] += 1
        if self._seen[shape] <= STEPS_BEFORE_RECORDING:
            return self._step(batch)
        if shape not in self._recordings:
            self._recordings[shape] = self._record(batch)
        recording = self._recordings[shape]
        return self._step(batch) if recording is None else recording.replay(batch)

    def _record(self, batch: Batch) -> _Recording | None:
        try:
            return _Recording(self._step, batch, self._graphs)
        except RuntimeError:  # torch's for all that a graph cannot hold
            return None


class _Recording:
    """A step on batches of one shape, as a graph and the tensors that it reads and writes."""

    def __init__(self, step: Step, batch: Batch, graphs: CudaGraphs) -> None:
        self._inputs = Batch(**{item.name: getattr(batch, item.name).clone() for item in fields(Batch)})
        self._result: Tensor
        self._replay = graphs.record(lambda: self._take(step))

    def replay(self, batch: Batch) -> Tensor:
        """Take the step on another batch. Shape: to (2,)."""
        for item in fields(Batch):
            getattr(self._inputs, item.name).copy_(getattr(batch, item.name))
        self._replay()
        return self._result.clone()

    def _take(self, step: Step) -> None:
        self._result = step(self._inputs)


def fastest(step: Step, defenses: Sequence[Defense], device: torch.device) -> Step:
    """The same step, recorded where device and defenses allow it."""
    recordable = device.type == "cuda" and all(defense.capturable for defense in defenses)
    return RecordedStep(step, device) if recordable else step


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """Weighted sum over rows of the cross-entropy against class probabilities, which may be negative.

    Shape: logits (B, K) to ().
    """
    return -(batch.weights * (batch.targets * logits.log_softmax(1)).sum(1)).sum()
