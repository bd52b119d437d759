"""How a classifier is trained: the optimiser, its learning rate over time, and the protocols of published work."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator
from torch import Tensor, nn

from workloads.core.config import ACCEPTS_LISTS, Epochs, Fraction, FrozenConfig, Preset
from workloads.core.errors import ConfigError
from workloads.core.numerics import Precision
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
    """How a classifier is trained. The defaults are those of the literature at 64 pixels, without augmentation."""

    protocol: Annotated[Literal["lr_64", "hr_224"] | None, Preset()] = None
    """A published training: `lr_64` for images of 64 pixels, `hr_224` for 224 pixels. It sets the fields below; a spec
    may override them one by one."""
    epochs: Epochs = 50
    """Passes over the training images."""
    batch_size: Annotated[int, Field(ge=2, le=65_536)] = 64
    """Images per step."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    """Rule that turns gradients into steps."""
    lr: PositiveFloat = 0.01
    """Learning rate at its highest; `schedule` and `warmup_epochs` lower it. Lower it if training diverges."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum. Only for `sgd`; the others ignore it."""
    nesterov: bool = False
    """Use Nesterov momentum. Only for `sgd`, and only with `momentum` above 0."""
    weight_decay: NonNegativeFloat = 1e-4
    """Strength of weight decay on all parameters."""
    schedule: Literal["constant", "cosine", "step", "one_cycle"] = "constant"
    """Course of the learning rate. `cosine` falls to 0; `step` falls after each of `milestones`; `one_cycle` rises from
    1/25 of `lr` over the first 30 % of the training and then falls to almost 0."""
    milestones: Annotated[tuple[Fraction, ...], ACCEPTS_LISTS] = (0.75, 0.9)
    """Fractions of the epochs after which the learning rate is multiplied by `gamma`. Only for `schedule: step`."""
    gamma: PositiveFloat = 0.1
    """Factor on the learning rate at each of `milestones`. Only for `schedule: step`."""
    warmup_epochs: NonNegativeInt = 0
    """Epochs over which the learning rate rises linearly from 0."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the target that is spread over all classes. Below 0 it is a defense: `negative_label_smoothing`."""
    clip_norm: PositiveFloat | None = None
    """Largest norm of the gradient of all parameters together; None does not clip."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay per step of a moving average of the parameters, which then is the trained model; None for no average."""
    precision: Precision = "fp32"
    """Precision that the network computes in. `tf32` and `bf16` are faster on recent GPUs; validation stays fp32."""
    channels_last: bool = False
    """Keep channels last in memory, which is faster for convolutions on GPUs."""
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of the training images to validate with instead of training on them. The held-out images that measure
    the model are never used for it."""
    select: Literal["last", "best_validation"] = "last"
    """Which epoch's weights to keep: the last, or the first with the best validation accuracy."""
    augmentation: AugmentationConfig = AugmentationConfig()
    """How training images are varied."""

    @model_validator(mode="before")
    @classmethod
    def _begin_with_protocol(cls, settings: object) -> object:
        if not isinstance(settings, dict) or (preset := PROTOCOLS.get(str(settings.get("protocol")))) is None:
            return settings
        augmentation = settings.get("augmentation", {})
        if isinstance(augmentation, dict):
            augmentation = {**preset["augmentation"], **augmentation}
        return {**preset, **settings, "augmentation": augmentation}

    @model_validator(mode="after")
    def _check_dependencies(self) -> TrainingConfig:
        if self.select == "best_validation" and not self.validation_fraction:
            raise ConfigError(
                "select best_validation needs validation images: set validation_fraction, for example 0.1"
            )
        if self.nesterov and self.optimizer == "sgd" and not self.momentum:
            raise ConfigError("nesterov needs a momentum above 0: raise it, or leave nesterov out")
        return self


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Optimiser of the parameters that are not frozen.

    On a GPU a step is one kernel, which reads the learning rate from the GPU, so that a recorded step follows it.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    on_gpu = any(parameter.is_cuda for parameter in parameters)
    rate = torch.tensor(config.lr, device=parameters[0].device) if on_gpu else config.lr
    common: dict[str, Any] = {"lr": rate, "weight_decay": config.weight_decay, "fused": on_gpu or None}
    match config.optimizer:
        case "adam":
            return torch.optim.Adam(parameters, capturable=on_gpu, **common)
        case "adamw":
            return torch.optim.AdamW(parameters, capturable=on_gpu, **common)
        case "sgd":
            return torch.optim.SGD(parameters, momentum=config.momentum, nesterov=config.nesterov, **common)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give all parameters this learning rate, in place where the optimiser reads it from a device."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def learning_rate(config: TrainingConfig, epoch: int, *, within: float = 0.0) -> float:
    """The learning rate in an epoch, counted from 0, of which the fraction `within`, in [0, 1), is over.

    Only warm-up and one-cycle change it from step to step; the others do from epoch to epoch, as published.
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
    """Factor that rises along a cosine for 30 % of the training and then falls along another.

    Source: Smith and Topin, 2018, with torch's defaults.
    """
    if done < ONE_CYCLE_WARM_UP:
        return _cosine(ONE_CYCLE_START, 1.0, done / ONE_CYCLE_WARM_UP)
    return _cosine(1.0, ONE_CYCLE_END, (done - ONE_CYCLE_WARM_UP) / (1 - ONE_CYCLE_WARM_UP))


def _cosine(start: float, end: float, done: float) -> float:
    """Value on the half cosine from `start` to `end`, of which the fraction `done` is over."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))
