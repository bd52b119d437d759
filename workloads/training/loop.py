"""The one training loop of all classifiers: target models, defended or not, evaluation models and surrogates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.errors import DivergedError
from workloads.datasets.base import ImageSet, SplitConfig
from workloads.datasets.resident import DeviceImages
from workloads.defenses.base import Batch, Defense
from workloads.models.base import Classifier
from workloads.recipes.augmentation import augment
from workloads.recipes.optimization import TrainingConfig, build_optimizer, learning_rate, set_learning_rate
from workloads.training.average import MovingAverage
from workloads.training.prediction import count_correct, unit_range
from workloads.training.step import TrainingStep, fastest


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
    epoch come from generators named after it. From the start of an epoch's first step to the end of its last, nothing
    is read from the device and nothing copied to it, unless the images do not fit there.

    Raises:
        DivergedError: at the end of an epoch whose loss was not finite, with epoch, step and learning rate.
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
        self._optimizer = build_optimizer(model, config)
        for defense in defenses:
            self._optimizer = defense.wrap_optimizer(self._optimizer)
        self._average = MovingAverage(model, config.ema) if config.ema else None
        self._best: State = {"accuracy": -1.0, "weights": {}}
        if config.channels_last:
            model.to(memory_format=torch.channels_last)
        step = TrainingStep(model, config, optimizer=self._optimizer, defenses=defenses, average=self._average)
        self._step = fastest(step, defenses, context.device)
        self._images = DeviceImages(data, context.device)
        self._targets = _targets_of_classes(model.classes, config.label_smoothing, context.device)
        self._draws = [context.device_generator() for _ in ("augment", *defenses)]
        self._validation = None if validation is None else DeviceImages(validation, context.device)

    def train_epoch(self) -> dict[str, float]:
        """Train one epoch.

        Returns the mean loss and accuracy over its batches, measured as the model saw them, the last learning rate,
        and the validation accuracy if there are validation images.
        """
        self._model.train()
        for defense in self._defenses:
            defense.begin_epoch(self.epoch)
        batches = self._batches_of_indices()
        on_device = torch.cat(list(batches)).to(self._context.device).split([len(batch) for batch in batches])
        rates = [learning_rate(self._config, self.epoch, within=step / len(batches)) for step in range(len(batches))]
        self._rewind_draws()
        with self._context.global_draws("layers", self.epoch):
            results, rows = self._take_steps(list(zip(rates, on_device, batches, strict=True)))
        metrics = self._mean_of(results, rows, rates)
        self.epoch += 1
        return metrics | self._validate()

    def _rewind_draws(self) -> None:
        """Put the generators, of augmentation and of each defense, at the start of this epoch's streams."""
        self._context.rewind(self._draws[0], "augment", self.epoch)
        for index, draws in enumerate(self._draws[1:]):
            self._context.rewind(draws, "defense", index, self.epoch)

    def _take_steps(self, batches: Sequence[tuple[float, Tensor, Tensor]]) -> tuple[Tensor, list[int]]:
        """A step for each learning rate and batch of positions; what the steps returned, and their numbers of rows."""
        results, rows = [], []
        for rate, indices, on_host in batches:
            set_learning_rate(self._optimizer, rate)
            batch = self._augment_normalize_and_defend(indices, on_host)
            results.append(self._step(batch))
            rows.append(len(batch.images))
        return torch.stack(results), rows

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
        """Positions of the images in each batch of the epoch, on the CPU; a defense may choose them."""
        draws = self._context.generator("shuffle", self.epoch)
        choices = (defense.batches(generator=draws) for defense in self._defenses)
        batches = next((choice for choice in choices if choice is not None), None)
        if batches is not None:
            return batches
        return _split(torch.randperm(len(self._images), generator=draws), self._config.batch_size)

    def _augment_normalize_and_defend(self, indices: Tensor, on_host: Tensor) -> Batch:
        """Augment in [0, 1], normalise, then let defenses act: erasing after normalising is the published order."""
        images = unit_range(self._images.take(indices, on_host=on_host))
        images = augment(images, self._config.augmentation, generator=self._draws[0])
        targets = self._targets[self._images.identities[indices]]
        weights = torch.full((len(indices),), 1 / max(len(indices), 1), device=images.device)
        batch = Batch(self._model.normalize(images), indices, targets, weights)
        for defense, draws in zip(self._defenses, self._draws[1:], strict=True):
            batch = defense.prepare(batch, generator=draws)
        return batch

    def _mean_of(self, results: Tensor, rows: Sequence[int], rates: Sequence[float]) -> dict[str, float]:
        """Means over an epoch of what its steps returned. Shape: results (steps, 2).

        Raises:
            DivergedError: if a loss is not finite.
        """
        losses, correct = results.T.tolist()
        for step, (loss, rate) in enumerate(zip(losses, rates, strict=True)):
            if not math.isfinite(loss):
                where = f"epoch {self.epoch}, step {step}, lr {rate:g}"
                raise DivergedError(f"loss became {loss} at {where}: lower training.lr.")
        total = sum(loss * count for loss, count in zip(losses, rows, strict=True))
        return {"train_loss": total / sum(rows), "train_accuracy": sum(correct) / sum(rows), "lr": rates[-1]}

    def _validate(self) -> dict[str, float]:
        """The validation accuracy, and the weights kept if they are the best so far."""
        if self._validation is None:
            return {}
        with self._average.in_place(self._model) if self._average else nullcontext():
            accuracy = count_correct(self._model, self._validation) / len(self._validation)
            if accuracy > self._best["accuracy"] and self._config.select == "best_validation":
                weights = {name: weight.detach().clone() for name, weight in self._model.state_dict().items()}
                self._best = {"accuracy": accuracy, "weights": weights}
        return {"validation_accuracy": accuracy}


def split_off_validation(data: ImageSet, config: TrainingConfig) -> tuple[ImageSet, ImageSet | None]:
    """Images to train on and, if `config` asks for them, images to validate with."""
    if not config.validation_fraction:
        return data, None
    return data.split(SplitConfig(test_fraction=config.validation_fraction))


def _targets_of_classes(classes: int, smoothing: float, device: torch.device) -> Tensor:
    """Class probabilities that an image of each class is trained towards. Shape: (classes, classes)."""
    targets = F.one_hot(torch.arange(classes, device=device), classes).float()
    return (1 - smoothing) * targets + smoothing / classes if smoothing else targets


def _split(order: Tensor, size: int) -> list[Tensor]:
    """Batches of an epoch; a last one of a single image joins the one before, because batch norm needs two."""
    batches = list(order.split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches
