"""Steps and learning rates by hand and against torch's schedulers, and the published protocols."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from workloads.recipes.optimization import TrainingConfig, build_optimizer, learning_rate


@pytest.mark.parametrize(
    ("settings", "first", "second"),
    [
        # One weight begins at 1, its gradient is 0.5 twice, the learning rate is 0.1.
        ({"optimizer": "sgd", "momentum": 0.0}, 0.95, 0.9),
        ({"optimizer": "sgd", "momentum": 0.9}, 0.95, 0.855),  # velocity 0.5, then 0.95
        ({"optimizer": "sgd", "momentum": 0.9, "nesterov": True}, 0.905, 0.7695),  # 0.5 + 0.45, then 0.5 + 0.855
        ({"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.1}, 0.94, 0.8806),  # 0.5 + 0.1, then 0.5 + 0.094
        ({"optimizer": "adam"}, 0.9, 0.8),  # the sign of the gradient
        ({"optimizer": "adamw", "weight_decay": 0.1}, 0.89, 0.7811),  # 0.99 x 1 - 0.1, then 0.99 x 0.89 - 0.1
    ],
)
def test_two_steps_of_an_optimizer_by_hand(settings: dict[str, Any], first: float, second: float) -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    optimizer = build_optimizer(model, TrainingConfig(**{"lr": 0.1, "weight_decay": 0.0, **settings}))
    weights = []
    for _ in range(2):
        model.weight.grad = torch.full((1, 1), 0.5)
        optimizer.step()
        weights.append(model.weight.item())
    assert weights == pytest.approx([first, second], abs=1e-6)


def test_frozen_weights_are_not_decayed() -> None:
    model = nn.Linear(1, 1)
    model.weight.requires_grad_(False)
    (group,) = build_optimizer(model, TrainingConfig(weight_decay=0.1)).param_groups
    assert [id(weight) for weight in group["params"]] == [id(model.bias)]


def test_one_cycle_is_torchs() -> None:
    epochs, steps = 5, 20
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    total = epochs * steps + 1
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=total, cycle_momentum=False)
    config = TrainingConfig(epochs=epochs, lr=0.1, schedule="one_cycle")
    for step in range(epochs * steps):
        # torch counts its steps to the peak from one end to the other: 0.3 of the total, less one
        ours = learning_rate(config, step // steps, within=step % steps / steps)
        assert ours == pytest.approx(scheduler.get_last_lr()[0], abs=0.1 * 0.04)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize(("done", "expected"), [(0.0, 1 / 25), (0.15, 0.52), (0.3, 1.0), (0.65, 0.500002)])
def test_one_cycle_by_hand(done: float, expected: float) -> None:
    # Half of each cosine is the mean of its ends: (1/25 + 1) / 2 and (1 + 1e-4 / 25) / 2.
    config = TrainingConfig(epochs=100, lr=1.0, schedule="one_cycle")
    assert learning_rate(config, int(100 * done)) == pytest.approx(expected, abs=1e-6)


def test_warm_up_rises_in_a_line_and_then_leaves_the_schedule_alone() -> None:
    config = TrainingConfig(epochs=4, lr=1.0, warmup_epochs=2)
    rates = [learning_rate(config, epoch, within=within) for epoch in range(3) for within in (0.0, 0.5)]
    assert rates == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0, 1.0])


def test_a_protocol_is_a_beginning_that_fields_override() -> None:
    config = TrainingConfig.model_validate({"protocol": "hr_224", "epochs": 10, "augmentation": {"flip": False}})
    assert (config.optimizer, config.lr, config.batch_size, config.weight_decay) == ("adam", 0.001, 128, 0.0)
    assert (config.epochs, config.schedule, config.milestones) == (10, "step", (0.75, 0.9))
    augmentation = config.augmentation
    assert (augmentation.flip, augmentation.crop_scale, augmentation.hue) == (False, (0.85, 1.0), 0.1)


def test_a_protocol_survives_json() -> None:
    config = TrainingConfig.model_validate_json('{"protocol": "lr_64", "lr": 0.02}')
    assert (config.lr, config.momentum, config.weight_decay, config.epochs) == (0.02, 0.9, 1e-4, 50)
    assert TrainingConfig.model_validate_json(config.model_dump_json()) == config


def test_selecting_by_validation_needs_validation_images() -> None:
    with pytest.raises(ValueError, match="select best_validation needs validation images"):
        TrainingConfig(select="best_validation")
