"""How a classifier's weights move: the optimiser, its learning rate over time, and the published protocols."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import nn

from workloads.core.config import ACCEPTS_LISTS, Fraction, FrozenConfig, Preset
from workloads.core.errors import ConfigError
from workloads.recipes.augmentation import AugmentationConfig

PROTOCOLS: dict[str, dict[str, Any]] = {
    # Zhang et al., CVPR 2020 and those who followed, at 64 pixels; the authors' code never steps its schedule.
    "lr_64": {
        **{"epochs": 50, "batch_size": 64, "optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4},
        **{"schedule": "constant", "augmentation": {"flip": True}},
    },
    # Struppek et al., ICML 2022 and Tran et al., TMLR 2025, at 224 pixels.
    "hr_224": {
        **{"epochs": 100, "batch_size": 128, "optimizer": "adam", "lr": 0.001, "weight_decay": 0.0},
        **{"schedule": "step", "milestones": [0.75, 0.9], "gamma": 0.1},
        "augmentation": {
            **{"flip": True, "crop_scale": [0.85, 1.0]},
            **{"brightness": 0.2, "contrast": 0.2, "saturation": 0.1, "hue": 0.1},
        },
    },
}
ONE_CYCLE_WARM_UP = 0.3
ONE_CYCLE_START, ONE_CYCLE_END = 1 / 25, 1e-4 / 25


class TrainingConfig(FrozenConfig):
    """How a classifier is trained."""

    protocol: Annotated[Literal["lr_64", "hr_224"] | None, Preset()] = None
    """A published schedule, whose fields a spec may override one by one."""
    epochs: PositiveInt = 50
    batch_size: Annotated[int, Field(ge=2)] = 64
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: PositiveFloat = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of SGD; the others ignore it."""
    nesterov: bool = False
    """Of SGD, which then needs a momentum."""
    weight_decay: NonNegativeFloat = 1e-4
    schedule: Literal["constant", "cosine", "step", "one_cycle"] = "constant"
    milestones: Annotated[tuple[Fraction, ...], ACCEPTS_LISTS] = (0.75, 0.9)
    """Of `schedule: step`: the learning rate is multiplied by `gamma` after these fractions of the epochs."""
    gamma: PositiveFloat = 0.1
    warmup_epochs: NonNegativeInt = 0
    """Epochs over which the learning rate rises in a line from nothing."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    clip_norm: PositiveFloat | None = None
    """Bound of the norm of the whole gradient."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of a moving average over steps; the average is then the model."""
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = False
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the training images kept out of training, never of the held-out images that measure the model."""
    select: Literal["last", "best_validation"] = "last"
    augmentation: AugmentationConfig = AugmentationConfig()

    @model_validator(mode="before")
    @classmethod
    def _begin_with_protocol(cls, given: Any) -> Any:
        known = PROTOCOLS.get(str(given.get("protocol"))) if isinstance(given, dict) else None
        if known is None:
            return given
        own = given.get("augmentation", {})
        augmentation = {**known["augmentation"], **own} if isinstance(own, dict) else own
        return {**known, **given, "augmentation": augmentation}

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> TrainingConfig:
        if self.select == "best_validation" and not self.validation_fraction:
            raise ConfigError("select best_validation needs validation images: set validation_fraction, as 0.1")
        if self.nesterov and self.optimizer == "sgd" and not self.momentum:
            raise ConfigError("nesterov needs a momentum above 0: raise it, or leave nesterov out")
        return self


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    match config.optimizer:
        case "adam":
            return torch.optim.Adam(parameters, lr=config.lr, weight_decay=config.weight_decay)
        case "adamw":
            return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
        case "sgd":
            return torch.optim.SGD(
                parameters,
                lr=config.lr,
                momentum=config.momentum,
                weight_decay=config.weight_decay,
                nesterov=config.nesterov,
            )


def learning_rate(config: TrainingConfig, epoch: int, *, within: float = 0.0) -> float:
    """The learning rate of an epoch counted from 0, `within` being the part of it that is over, in [0, 1).

    Only warm-up and one-cycle change from step to step, the others from epoch to epoch as the published code does.
    """
    warm = (epoch + within) / config.warmup_epochs if epoch < config.warmup_epochs else 1.0
    match config.schedule:
        case "cosine":
            factor = _cosine(1.0, 0.0, epoch / config.epochs)
        case "step":
            factor = config.gamma ** sum(epoch >= fraction * config.epochs for fraction in config.milestones)
        case "one_cycle":
            factor = _one_cycle((epoch + within) / config.epochs)
        case "constant":
            factor = 1.0
    return config.lr * factor * warm


def _one_cycle(done: float) -> float:
    """Up on a cosine for three tenths of the training, then down. Source: Smith and Topin, 2018; torch's defaults."""
    if done < ONE_CYCLE_WARM_UP:
        return _cosine(ONE_CYCLE_START, 1.0, done / ONE_CYCLE_WARM_UP)
    return _cosine(1.0, ONE_CYCLE_END, (done - ONE_CYCLE_WARM_UP) / (1 - ONE_CYCLE_WARM_UP))


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))
