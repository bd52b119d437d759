"""The one training loop of every classifier: target models, defended or not, and evaluation models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from workloads.checkpoints import State
from workloads.config import Fraction, FrozenConfig
from workloads.context import JobContext
from workloads.datasets.base import ImageSet
from workloads.defenses.base import Defense
from workloads.errors import DivergedError
from workloads.models.base import Classifier


class TrainingConfig(FrozenConfig):
    """How a classifier is trained."""

    epochs: PositiveInt = 50
    batch_size: Annotated[int, Field(ge=2)] = 64
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: PositiveFloat = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of SGD; Adam ignores it."""
    weight_decay: NonNegativeFloat = 1e-4
    schedule: Literal["constant", "cosine", "step"] = "constant"
    milestones: tuple[Fraction, ...] = (0.75, 0.9)
    """Of `schedule: step`: the learning rate is divided by ten after these fractions of the epochs."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    flip: bool = False
    """Mirror half of the training images."""
    shift: NonNegativeInt = 0
    """Move each training image by up to so many pixels either way, filling with its edge."""


def train(
    model: Classifier, data: ImageSet, config: TrainingConfig, *, defenses: Sequence[Defense], context: JobContext
) -> None:
    """Train `model` in place on all of `data`; the last epoch counts, nothing is selected.

    Continues from the job's checkpoint if there is one and then ends with the same bits: the draws of an epoch come
    from generators named after it.

    Raises:
        DivergedError: when the loss is no longer finite, with epoch, step and learning rate.
    """
    optimizer = build_optimizer(model, config)
    first = _resume(context.resume(), model, optimizer, defenses)
    for epoch in range(first, config.epochs):
        lr = learning_rate(config, epoch)
        for group in optimizer.param_groups:
            group["lr"] = lr
        loss, accuracy = _train_epoch(model, data, config, optimizer, defenses=defenses, epoch=epoch, context=context)
        context.report(epoch + 1, config.epochs, {"train_loss": loss, "train_accuracy": accuracy, "lr": lr})
        context.checkpoint(lambda done=epoch + 1: _state(done, model, optimizer, defenses))  # type: ignore[misc]
    model.eval()


def build_optimizer(model: Classifier, config: TrainingConfig) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


def learning_rate(config: TrainingConfig, epoch: int) -> float:
    """The learning rate of an epoch counted from 0."""
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * epoch / config.epochs))
    if config.schedule == "step":
        return config.lr * 0.1 ** sum(epoch >= fraction * config.epochs for fraction in config.milestones)
    return config.lr


def _train_epoch(
    model: Classifier,
    data: ImageSet,
    config: TrainingConfig,
    optimizer: torch.optim.Optimizer,
    *,
    defenses: Sequence[Defense],
    epoch: int,
    context: JobContext,
) -> tuple[float, float]:
    """Mean loss and accuracy over the epoch's own batches, as the model met them."""
    model.train()
    order = torch.randperm(len(data), generator=context.generator("shuffle", epoch))
    draws = context.generator("augment", epoch)
    total_loss = correct = 0.0
    for step, indices in enumerate(_batches(order, config.batch_size)):
        images = augment(_unit(data.images[indices]), config, generator=draws).to(context.device)
        images = model.normalize(images)
        for defense in defenses:
            images = defense.augment(images, indices=indices, generator=draws)
        identities = data.identities[indices].to(context.device)
        logits = model.classify(images)
        loss = F.cross_entropy(logits, identities, label_smoothing=config.label_smoothing)
        if not math.isfinite(value := loss.item()):
            lr = optimizer.param_groups[0]["lr"]
            raise DivergedError(f"loss became {value} at epoch {epoch}, step {step}, lr {lr:g}: lower training.lr.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total_loss += value * len(indices)
        correct += (logits.argmax(1) == identities).sum().item()
    return total_loss / len(data), correct / len(data)


def _batches(order: Tensor, size: int) -> list[Tensor]:
    """Batches of an epoch; a last one of a single image joins its neighbour, since batch norm needs two."""
    batches = list(order.split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def augment(images: Tensor, config: TrainingConfig, *, generator: torch.Generator) -> Tensor:
    """Flip and shift each image by its own draw. Shape: (B, C, H, W) float, kept."""
    if config.flip:
        mirrored = torch.rand(len(images), generator=generator) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    if config.shift:
        padded = F.pad(images, (config.shift,) * 4, mode="replicate")
        corners = torch.randint(2 * config.shift + 1, (len(images), 2), generator=generator)
        rows = corners[:, :1] + torch.arange(images.shape[2])
        columns = corners[:, 1:] + torch.arange(images.shape[3])
        batch = torch.arange(len(images))[:, None, None]
        images = padded[batch, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
    return images


@torch.no_grad()
def predict(model: Classifier, images: Tensor, *, device: torch.device, batch_size: int = 256) -> Tensor:
    """Logits of uint8 images in eval mode, on the CPU. Shape: (N, C, H, W) to (N, classes)."""
    model.eval()
    return torch.cat([model(_unit(batch).to(device)).cpu() for batch in images.split(batch_size)])


def channel_mean(model: Classifier, images: Tensor) -> Tensor:
    """Mean of uint8 images per channel, after the model's normalisation. Shape: (N, C, H, W) to (C,), on the CPU."""
    mean = images.double().mean((0, 2, 3)).div(255).float()
    return (mean - model.mean.cpu().flatten()) / model.std.cpu().flatten()


def _unit(images: Tensor) -> Tensor:
    return images.float().div_(255)


def _state(epoch: int, model: Classifier, optimizer: torch.optim.Optimizer, defenses: Sequence[Defense]) -> State:
    slots = optimizer.state_dict()["state"]
    return {
        "epoch": epoch,
        "model": model.state_dict(),
        "optimizer": {str(index): slot for index, slot in slots.items()},
        "defenses": {str(index): defense.state() for index, defense in enumerate(defenses)},
    }


def _resume(
    saved: State | None, model: Classifier, optimizer: torch.optim.Optimizer, defenses: Sequence[Defense]
) -> int:
    """Put back what `_state` gave; the epoch to go on with."""
    if saved is None:
        return 0
    model.load_state_dict(saved["model"])
    slots = {int(index): slot for index, slot in saved["optimizer"].items()}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
    for index, defense in enumerate(defenses):
        defense.restore(saved["defenses"][str(index)])
    return saved["epoch"]
