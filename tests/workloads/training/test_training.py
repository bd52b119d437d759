"""The training loop: its options and schedules by hand, an end in numbers that are none, the same bits on a restart."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from tests.support.interruptions import Interrupted, context_at
from tests.support.training import Linear, assert_biases, black, epochs_of
from workloads.context import DataInput, JobContext
from workloads.core.errors import DivergedError
from workloads.core.randomness import generator
from workloads.datasets.base import ImageSet, SplitConfig
from workloads.datasets.digits import DigitsConfig
from workloads.defenses.base import DefenseConfig
from workloads.defenses.bido import BidoConfig
from workloads.defenses.cutmix import CutmixConfig
from workloads.defenses.cutout import CutoutConfig
from workloads.defenses.dp_sgd import DpSgdConfig
from workloads.defenses.grid_mask import GridMaskConfig
from workloads.defenses.hide_and_seek import HideAndSeekConfig
from workloads.defenses.mid import MidConfig
from workloads.defenses.negative_label_smoothing import NegativeLabelSmoothingConfig
from workloads.defenses.random_erasing import RandomErasingConfig
from workloads.defenses.trap_mid import TrapMidConfig
from workloads.jobs.train_classifier import TrainClassifier, TrainClassifierConfig
from workloads.models.small_cnn import SmallCnnConfig
from workloads.priors.wgan_gp import WganGp, WganGpConfig
from workloads.recipes.augmentation import AugmentationConfig
from workloads.recipes.optimization import TrainingConfig, learning_rate
from workloads.training.loop import train

IMAGES = torch.randint(256, (40, 1, 32, 32), generator=generator("test", "images"), dtype=torch.uint8)
DATA = ImageSet(IMAGES, torch.arange(40) % 4, ("a", "b", "c", "d"))


MOVED = AugmentationConfig(flip=True, shift=2)


def training_at(folder: Path, *, stop_at: int | None = None) -> JobContext:
    context = context_at(folder, stop_at=stop_at)
    context.load_images = lambda data: DATA
    return context


def classifier(*defenses: DefenseConfig, **training: Any) -> TrainClassifier:
    config = TrainClassifierConfig(
        role="target",
        data=DataInput(dataset=DigitsConfig(), digest=""),
        split=SplitConfig(),
        model=SmallCnnConfig(width=4),
        training=TrainingConfig(**{"epochs": 4, "batch_size": 8, "augmentation": MOVED, **training}),
        defenses=defenses,
    )
    return TrainClassifier(config)


def trained(folder: Path, job: TrainClassifier, *, stop_at: int | None = None) -> dict[str, Tensor]:
    job.run(training_at(folder, stop_at=stop_at))
    files = ("model.safetensors", "defenses.safetensors")
    return {f"{file}/{name}": tensor for file in files for name, tensor in load_file(folder / file).items()}


def fitted(folder: Path, *, checkpoints: int | None = None) -> dict[str, Tensor]:
    """A fitted prior, or `Interrupted` after N checkpoints, one a step."""
    prior = WganGp(WganGpConfig(latent_size=6, width=2, steps=12, batch_size=4), channels=1, image_size=32, classes=1)
    prior.fit(IMAGES, context=context_at(folder, stop_after=checkpoints))
    return prior.state_dict()


def assert_same_bits(states: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert states.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(states[name], expected[name])] == []


DEFENDED: dict[str, tuple[DefenseConfig, ...]] = {
    "undefended": (),
    "erased": (RandomErasingConfig(probability=0.5, fill="pixel_noise", location="uniform"),),
    "erased_per_image": (RandomErasingConfig(location="per_image", fill="box_colour", boxes=2),),
    "mid": (MidConfig(),),
    "bido": (BidoConfig(),),
    "smoothed": (NegativeLabelSmoothingConfig(),),
    "trapped_then_erased": (TrapMidConfig(), RandomErasingConfig()),
    "private": (DpSgdConfig(), RandomErasingConfig()),
    "cut_out": (CutoutConfig(),),
    "mixed": (CutmixConfig(), MidConfig()),
    "masked": (GridMaskConfig(), HideAndSeekConfig()),
}


# With one of them at the first and the last of 4 epochs too: where a try ended is the loop's business, not a defense's.
STOPS = [(defense, 3) for defense in DEFENDED] + [("trapped_then_erased", 1), ("trapped_then_erased", 4)]


@pytest.mark.parametrize(("defended", "stop_at"), STOPS)
def test_a_resumed_classifier_ends_with_the_same_bits(tmp_path: Path, defended: str, stop_at: int) -> None:
    defenses = DEFENDED[defended]
    undisturbed = trained(tmp_path / "undisturbed", classifier(*defenses))
    with pytest.raises(Interrupted):
        trained(tmp_path / "interrupted", classifier(*defenses), stop_at=stop_at)
    assert_same_bits(trained(tmp_path / "interrupted", classifier(*defenses)), undisturbed)


EVERY_AUGMENTATION = AugmentationConfig(
    flip=True, crop_scale=(0.7, 1.0), rotation=20.0, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1
)
SETTINGS: list[dict[str, Any]] = [
    {"optimizer": "adam"},
    {"optimizer": "adamw", "clip_norm": 0.1},
    {"schedule": "cosine", "warmup_epochs": 2},
    {"schedule": "one_cycle", "nesterov": True},
    {"momentum": 0.0, "label_smoothing": 0.1},
    {"ema": 0.9, "validation_fraction": 0.2},
    {"ema": 0.9, "validation_fraction": 0.2, "select": "best_validation"},
    {"precision": "bf16", "channels_last": True},
    {"augmentation": EVERY_AUGMENTATION},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_resumed_classifier_ends_with_the_same_bits_however_it_is_trained(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    undisturbed = trained(tmp_path / "undisturbed", classifier(**settings))
    with pytest.raises(Interrupted):
        trained(tmp_path / "interrupted", classifier(**settings), stop_at=3)
    assert_same_bits(trained(tmp_path / "interrupted", classifier(**settings)), undisturbed)


class Forgetful(Linear):
    """A linear layer behind dropout, which notes what each batch keeps."""

    def __init__(self, biases: list[float]) -> None:
        super().__init__(biases)
        self.kept: list[Tensor] = []

    def features(self, normalized: Tensor) -> Tensor:
        kept = F.dropout(torch.ones(normalized.flatten(1).shape), 0.5, self.training)
        self.kept.append(kept)
        return normalized.flatten(1) * kept


SHADES = ImageSet(torch.arange(64, dtype=torch.uint8).view(4, 1, 4, 4) * 4, torch.tensor([0, 1, 0, 1]), ("a", "b"))


def forgetful_trained(folder: Path, *, stop_at: int | None = None) -> Forgetful:
    model = Forgetful([0.0, 0.0])
    before = torch.get_rng_state()
    settings = TrainingConfig(epochs=3, batch_size=4, lr=0.1)
    train(model, SHADES, settings, defenses=(), context=context_at(folder, stop_at=stop_at))
    assert torch.equal(torch.get_rng_state(), before)
    return model


def test_dropout_draws_by_the_key_of_the_job_and_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    first = forgetful_trained(tmp_path / "first")
    torch.manual_seed(2)
    assert_same_bits(forgetful_trained(tmp_path / "second").state_dict(), first.state_dict())
    with pytest.raises(Interrupted):
        forgetful_trained(tmp_path / "third", stop_at=2)
    assert_same_bits(forgetful_trained(tmp_path / "third").state_dict(), first.state_dict())


def test_dropout_draws_anew_each_epoch(tmp_path: Path) -> None:
    first, second, third = forgetful_trained(tmp_path / "forgetful").kept
    assert not torch.equal(first, second) and not torch.equal(second, third)


def test_private_training_with_validation_samples_training_images_only(tmp_path: Path) -> None:
    trained(tmp_path, classifier(DpSgdConfig(), validation_fraction=0.5))
    facts = json.loads((tmp_path / "defenses.json").read_text())["0.dp_sgd"]
    # 40 images, less a fifth held out for the measure and half of the rest for validation: 16; batches of 8.
    assert facts["sample_rate"] == 0.5


def test_a_resumed_classifier_goes_on_after_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        trained(tmp_path, classifier(), stop_at=3)
    seen: list[int] = []
    context = training_at(tmp_path)
    context.on_progress = lambda progress: seen.append(progress.step)
    classifier().run(context)
    assert seen == [3, 4]
    history = json.loads((tmp_path / "history.json").read_text(encoding="utf-8"))
    assert [row["step"] for row in history] == [1, 2, 3, 4], "earlier epochs are part of the history"


@pytest.mark.parametrize("checkpoints", [1, 6])  # the generator moves at steps 5 and 10 of 12
def test_a_resumed_prior_ends_with_the_same_bits(tmp_path: Path, checkpoints: int) -> None:
    undisturbed = fitted(tmp_path / "undisturbed")
    with pytest.raises(Interrupted):
        fitted(tmp_path / "interrupted", checkpoints=checkpoints)
    assert_same_bits(fitted(tmp_path / "interrupted"), undisturbed)


# By hand


# All images are of class 0 and the biases begin at (0, 0.5). With d their difference and p = 1 / (1 + exp(-d)), the
# gradient is (-p, p): at lr 0.15 p is 0.622459, 0.577681 and 0.534933, and d goes 0.5, 0.313262, 0.139958, -0.020522.


def test_a_step_of_the_loop_by_hand(tmp_path: Path) -> None:
    model = Linear([0.0, 0.5])
    (metrics,) = epochs_of(tmp_path, model, black([0] * 4))
    assert metrics == pytest.approx({"train_loss": math.log1p(math.exp(0.5)), "train_accuracy": 0.0, "lr": 0.15})
    assert_biases(model, 0.093369, 0.406631)


def test_the_model_is_the_moving_average_over_its_steps(tmp_path: Path) -> None:
    model = Linear([0.0, 0.5])
    epochs_of(tmp_path, model, black([0] * 4), epochs=2, ema=0.75)
    # 0.75 (0.75 x 0 + 0.25 x 0.093369) + 0.25 x 0.180021
    assert_biases(model, 0.062512, 0.437488)


def test_validation_looks_at_the_moving_average_and_training_goes_on_without_it(tmp_path: Path) -> None:
    model = Linear([0.0, 0.5])
    metrics = epochs_of(tmp_path, model, black([0] * 4), validation=black([1] * 4), epochs=3, ema=0.75)
    assert [epoch["validation_accuracy"] for epoch in metrics] == [1.0, 1.0, 1.0]
    expected = [math.log1p(math.exp(difference)) for difference in (0.5, 0.313262, 0.139958)]
    assert [epoch["train_loss"] for epoch in metrics] == pytest.approx(expected, abs=2e-6)


def test_the_model_is_the_first_of_those_that_validate_best(tmp_path: Path) -> None:
    model, validation = Linear([0.0, 0.5]), black([1] * 4)
    selection: dict[str, Any] = {"select": "best_validation", "validation_fraction": 0.5}
    metrics = epochs_of(tmp_path, model, black([0] * 4), validation=validation, epochs=3, **selection)
    assert [epoch["validation_accuracy"] for epoch in metrics] == [1.0, 1.0, 0.0]
    assert_biases(model, 0.093369, 0.406631)


def test_the_model_is_the_last_where_nothing_else_is_asked_for(tmp_path: Path) -> None:
    model = Linear([0.0, 0.5])
    epochs_of(tmp_path, model, black([0] * 4), validation=black([1] * 4), epochs=3)
    assert_biases(model, 0.260260, 0.239740)


@pytest.mark.parametrize(
    ("bound", "step"),
    [(0.1, 0.070711), (2.0, 0.622459)],  # 0.1 / sqrt(2), and the gradient as it is
)
def test_the_norm_of_the_whole_gradient_is_bounded(tmp_path: Path, bound: float, step: float) -> None:
    model = Linear([0.0, 0.5])
    epochs_of(tmp_path, model, black([0] * 4), lr=1.0, clip_norm=bound)
    assert_biases(model, step, 0.5 - step)


def test_smoothed_labels_give_every_class_its_share(tmp_path: Path) -> None:
    model = Linear([math.log(share) for share in (0.125, 0.25, 0.625)])
    (metrics,) = epochs_of(tmp_path, model, black([0] * 4), label_smoothing=0.3)
    # Targets are (0.8, 0.1, 0.1): -0.8 log 0.125 - 0.1 log 0.25 - 0.1 log 0.625. The gradient is p less those.
    assert metrics["train_loss"] == pytest.approx(1.849183, abs=1e-6)
    assert_biases(model, -2.079442 + 0.15 * 0.675, -1.386294 - 0.15 * 0.15, -0.470004 - 0.15 * 0.525)


def test_a_smaller_last_batch_counts_by_its_mean_too(tmp_path: Path) -> None:
    model = Linear([0.0, 0.5])
    epochs_of(tmp_path, model, black([0] * 6), batch_size=4)
    assert [len(images) for images in model.shown] == [4, 2]
    assert_biases(model, 0.180021, 0.319979)


def test_a_single_image_that_is_left_joins_the_batch_before_it(tmp_path: Path) -> None:
    model = Linear([0.0, 0.5])
    epochs_of(tmp_path, model, black([0] * 9), batch_size=4)
    assert [len(images) for images in model.shown] == [4, 5]


def test_every_epoch_shows_all_images_in_an_order_of_its_own(tmp_path: Path) -> None:
    shades = torch.arange(16, dtype=torch.uint8)
    images = shades[:, None, None, None].expand(-1, 1, 4, 4).contiguous()
    model = Linear([0.0, 0.5])
    epochs_of(tmp_path, model, ImageSet(images, torch.zeros(16).long(), ("a", "b")), epochs=2)
    first, second = (shown[:, 0, 0, 0].mul(255).round() for shown in model.shown)
    assert torch.equal(first.sort().values, shades.float()) and torch.equal(second.sort().values, shades.float())
    assert not torch.equal(first, shades.float()) and not torch.equal(first, second)


def test_the_network_is_shown_augmented_images_others_each_epoch(tmp_path: Path) -> None:
    images = torch.zeros(16, 1, 4, 4, dtype=torch.uint8)
    images[..., :2] = 255
    data = ImageSet(images, torch.zeros(16).long(), ("a", "b"))
    model = Linear([0.0, 0.5])
    epochs_of(tmp_path, model, data, epochs=2, augmentation={"flip": True})
    mirrored = []
    for shown in model.shown:
        left, right = ((shown == half).flatten(1).all(1) for half in (images / 255, images.flip(3) / 255))
        assert (left ^ right).all() and left.any() and right.any()
        mirrored.append(right)
    assert not torch.equal(*mirrored)


def test_two_trainings_under_one_key_give_the_same_bits(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = trained(tmp_path / "first", classifier())
    torch.manual_seed(2)
    assert_same_bits(trained(tmp_path / "second", classifier()), first)


def test_a_training_that_diverges_says_where_and_what_to_lower(tmp_path: Path) -> None:
    expected = r"^loss became (nan|inf) at epoch 0, step [0-3], lr 1e\+30: lower training\.lr\.$"
    with pytest.raises(DivergedError, match=expected):
        trained(tmp_path, classifier(lr=1e30))


def test_a_loss_beyond_all_numbers_is_divergence_too(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"^loss became inf at epoch 0, step 0, lr 0\.15:"):
        epochs_of(tmp_path, Linear([-3e38, 3e38]), black([0] * 4))


def test_a_constant_learning_rate_stays() -> None:
    config = TrainingConfig(epochs=4, lr=0.3)
    assert [learning_rate(config, epoch) for epoch in range(4)] == [0.3] * 4


def test_a_cosine_learning_rate_falls_along_half_a_period() -> None:
    # lr (1 + cos(pi t / T)) / 2 at t / T = 0, 1/4, 1/2, 3/4
    root = math.sqrt(0.5)
    expected = [1.0, (1 + root) / 2, 0.5, (1 - root) / 2]
    config = TrainingConfig(epochs=4, lr=1.0, schedule="cosine")
    assert [learning_rate(config, epoch) for epoch in range(4)] == pytest.approx(expected, abs=1e-12)


def test_a_stepped_learning_rate_is_divided_by_ten_after_each_milestone() -> None:
    config = TrainingConfig(epochs=10, lr=1.0, schedule="step", milestones=(0.5, 0.8))
    expected = [1.0] * 5 + [0.1] * 3 + [0.01] * 2
    assert [learning_rate(config, epoch) for epoch in range(10)] == pytest.approx(expected, rel=1e-12)
