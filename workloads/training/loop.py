"""The one training loop of all classifiers: target models, defended or not, evaluation models and surrogates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.errors import DivergedError
from workloads.core.numerics import arithmetic
from workloads.datasets.base import ImageSet, SplitConfig
from workloads.defenses.base import Batch, Defense
from workloads.models.base import Classifier
from workloads.recipes.augmentation import augment
from workloads.recipes.optimization import TrainingConfig, build_optimizer, learning_rate
from workloads.training.prediction import predict, unit_range


def train(
    model: Classifier,
    data: ImageSet,
    config: TrainingConfig,
    *,
    validation: ImageSet | None = None,
    defenses: Sequence[Defense],
    context: JobContext,
) -> None:
    """Train `model` in place on `data`, and leave it in eval mode.

    `validation` is measured after each epoch, and selects the weights if `config` says so. Training continues from the
    job's checkpoint if there is one and ends with the same bits as without the interruption, because the draws of an
    epoch come from generators named after it.

    Raises:
        DivergedError: if the loss is no longer finite, with epoch, step and learning rate.
    """
    for defense in defenses:
        defense.start(model)
    training = _Training(model, data, validation, config, defenses, context)
    training.restore(context.resume())
    while training.epoch < config.epochs:
        metrics = training.train_epoch()
        context.report(training.epoch, config.epochs, metrics)
        context.checkpoint(training.state)
    training.load_selected_weights()
    for defense in defenses:
        defense.finish()
    model.eval()


class _Training:
    """A training in progress: everything that a checkpoint has to hold."""

    def __init__(
        self,
        model: Classifier,
        data: ImageSet,
        validation: ImageSet | None,
        config: TrainingConfig,
        defenses: Sequence[Defense],
        context: JobContext,
    ) -> None:
        self.epoch = 0
        self._model, self._config, self._defenses, self._context = model, config, defenses, context
        self._data, self._validation = data, validation
        self._optimizer = build_optimizer(model, config)
        for defense in defenses:
            self._optimizer = defense.wrap_optimizer(self._optimizer)
        self._average = _MovingAverage(model, config.ema) if config.ema else None
        self._best: State = {"accuracy": -1.0, "weights": {}}
        if config.channels_last:
            model.to(memory_format=torch.channels_last)

    def train_epoch(self) -> dict[str, float]:
        """Train one epoch.

        Returns the mean loss and accuracy over its batches, measured as the model saw them, the last learning rate,
        and the validation accuracy if there are validation images.
        """
        self._model.train()
        for defense in self._defenses:
            defense.begin_epoch(self.epoch)
        batches = self._batches_of_indices()
        generators = [self._context.generator("augment", self.epoch)]
        generators += [self._context.generator("defense", index, self.epoch) for index in range(len(self._defenses))]
        loss = correct = rows = lr = 0.0
        for step, indices in enumerate(batches):
            lr = self._set_learning_rate(step / len(batches))
            batch = self._augment_normalize_and_defend(indices, generators)
            batch_loss, batch_correct = self._update(batch, step)
            loss += batch_loss * len(batch.images)
            correct += batch_correct
            rows += len(batch.images)
        self.epoch += 1
        metrics = {"train_loss": loss / rows, "train_accuracy": correct / rows, "lr": lr}
        return metrics | self._validate()

    def load_selected_weights(self) -> None:
        """Put into the model the weights that the configuration selects."""
        if self._config.select == "best_validation":
            self._model.load_state_dict(self._best["weights"])
        elif self._average:
            self._average.copy_to(self._model)

    def state(self) -> State:
        """What a checkpoint holds."""
        slots = self._optimizer.state_dict()["state"]
        return {
            "epoch": self.epoch,
            "model": self._model.state_dict(),
            "optimizer": {str(index): slot for index, slot in slots.items()},
            "average": self._average.weights if self._average else {},
            "best": self._best,
            "defenses": {str(index): defense.state() for index, defense in enumerate(self._defenses)},
        }

    def restore(self, saved: State | None) -> None:
        """Continue from what `state` returned, or from the start if there is nothing."""
        if saved is None:
            return
        self.epoch, self._best = saved["epoch"], saved["best"]
        self._model.load_state_dict(saved["model"])
        slots = {int(index): slot for index, slot in saved["optimizer"].items()}
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": slots})
        if self._average:
            device = self._context.device
            self._average.weights = {name: weight.to(device) for name, weight in saved["average"].items()}
        for index, defense in enumerate(self._defenses):
            defense.restore(saved["defenses"][str(index)])

    def _batches_of_indices(self) -> Sequence[Tensor]:
        """Positions of the images in each batch of the epoch; a defense may choose them."""
        draws = self._context.generator("shuffle", self.epoch)
        choices = (defense.batches(generator=draws) for defense in self._defenses)
        batches = next((choice for choice in choices if choice is not None), None)
        if batches is not None:
            return batches
        return _split(torch.randperm(len(self._data), generator=draws), self._config.batch_size)

    def _augment_normalize_and_defend(self, indices: Tensor, generators: Sequence[torch.Generator]) -> Batch:
        """Augment in [0, 1], normalise, then let defenses act: erasing after normalising is the published order.

        The first generator is for augmentation, and there is one for each defense.
        """
        device, classes = self._context.device, self._model.classes
        images = unit_range(self._data.images[indices].to(device))
        images = augment(images, self._config.augmentation, generator=generators[0])
        targets = F.one_hot(self._data.identities[indices], classes).to(device, images.dtype)
        if smoothing := self._config.label_smoothing:
            targets = (1 - smoothing) * targets + smoothing / classes
        weights = torch.full((len(indices),), 1 / max(len(indices), 1), device=device)
        batch = Batch(self._model.normalize(images), indices, targets, weights)
        for defense, draws in zip(self._defenses, generators[1:], strict=True):
            batch = defense.prepare(batch, generator=draws)
        return batch

    def _update(self, batch: Batch, step: int) -> tuple[float, int]:
        """One optimiser step; returns the loss and how many rows were classified as their target."""
        with arithmetic(self._config.precision, self._context.device) as forward:
            loss, logits = self._loss_and_logits(batch, forward)
            if not math.isfinite(value := loss.item()):
                lr = self._optimizer.param_groups[0]["lr"]
                where = f"epoch {self.epoch}, step {step}, lr {lr:g}"
                raise DivergedError(f"loss became {value} at {where}: lower training.lr.")
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
        if self._config.clip_norm:
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._config.clip_norm)
        self._optimizer.step()
        if self._average:
            self._average.update(self._model)
        return value, int((logits.argmax(1) == batch.targets.argmax(1)).sum())

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

    def _set_learning_rate(self, within: float) -> float:
        """Set the learning rate for the part of the epoch that is over, in [0, 1), and return it."""
        lr = learning_rate(self._config, self.epoch, within=within)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _validate(self) -> dict[str, float]:
        """The validation accuracy, and the weights kept if they are the best so far."""
        if self._validation is None:
            return {}
        with self._averaged_weights():
            logits = predict(self._model, self._validation.images, device=self._context.device)
            accuracy = (logits.argmax(1) == self._validation.identities).double().mean().item()
            if accuracy > self._best["accuracy"] and self._config.select == "best_validation":
                weights = {name: weight.detach().clone() for name, weight in self._model.state_dict().items()}
                self._best = {"accuracy": accuracy, "weights": weights}
        return {"validation_accuracy": accuracy}

    @contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """While the block runs, the model has its averaged weights, if an average is kept."""
        if self._average is None:
            yield
            return
        current = {name: parameter.detach().clone() for name, parameter in self._model.named_parameters()}
        self._average.copy_to(self._model)
        yield
        _MovingAverage.load(self._model, current)


class _MovingAverage:
    """Exponential moving average of the parameters; buffers are those of the last step."""

    def __init__(self, model: Classifier, decay: float) -> None:
        self._decay = decay
        self.weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: Classifier) -> None:
        """Move the average towards the model's parameters after a step."""
        for name, parameter in model.named_parameters():
            self.weights[name].lerp_(parameter, 1 - self._decay)

    def copy_to(self, model: Classifier) -> None:
        """Put the average into the model."""
        self.load(model, self.weights)

    @staticmethod
    @torch.no_grad()
    def load(model: Classifier, weights: State) -> None:
        """Put these parameters into the model."""
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])


def split_off_validation(data: ImageSet, config: TrainingConfig) -> tuple[ImageSet, ImageSet | None]:
    """Images to train on and, if `config` asks for them, images to validate with."""
    if not config.validation_fraction:
        return data, None
    return data.split(SplitConfig(test_fraction=config.validation_fraction))


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """Weighted sum over rows of the cross-entropy against class probabilities, which may be negative.

    Shape: logits (B, K) to ().
    """
    return -(batch.weights * (batch.targets * logits.log_softmax(1)).sum(1)).sum()


def _split(order: Tensor, size: int) -> list[Tensor]:
    """Batches of an epoch; a last one of a single image joins the one before, because batch norm needs two."""
    batches = list(order.split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches
