"""The training loop: its schedules by hand, its end in numbers that are none, and the same bits after a restart."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.interruptions import Interrupted, context_at
from workloads.augmentation import AugmentationConfig
from workloads.context import DataInput, JobContext
from workloads.datasets.base import ImageSet, SplitConfig
from workloads.datasets.digits import DigitsConfig
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
from workloads.errors import DivergedError
from workloads.jobs.train_classifier import TrainClassifier, TrainClassifierConfig
from workloads.models.small_cnn import SmallCnnConfig
from workloads.optimization import TrainingConfig, learning_rate
from workloads.priors.wgan_gp import WganGp, WganGpConfig
from workloads.randomness import generator

IMAGES = torch.randint(256, (40, 1, 32, 32), generator=generator("test", "images"), dtype=torch.uint8)
DATA = ImageSet(IMAGES, torch.arange(40) % 4, ("a", "b", "c", "d"))


MOVED = AugmentationConfig(flip=True, shift=2)


def training_at(folder: Path, *, stop_at: int | None = None) -> JobContext:
    context = context_at(folder, stop_at=stop_at)
    context.load_images = lambda data: DATA
    return context


def classifier(*defenses: RandomErasingConfig, **training: Any) -> TrainClassifier:
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
    """A fitted prior, or `Interrupted` after so many checkpoints, one a step."""
    prior = WganGp(WganGpConfig(latent_size=6, width=2, steps=12, batch_size=4), channels=1, image_size=32, classes=1)
    prior.fit(IMAGES, context=context_at(folder, stop_after=checkpoints))
    return prior.state_dict()


def assert_same_bits(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


DEFENDED = {
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


@pytest.mark.parametrize("stop_at", [1, 3, 4])
@pytest.mark.parametrize("defenses", DEFENDED.values(), ids=DEFENDED)
def test_a_resumed_classifier_ends_with_the_same_bits(tmp_path: Path, defenses: Any, stop_at: int) -> None:
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


@pytest.mark.parametrize("checkpoints", [1, 6])  # the generator moves at steps 5 and 10 of 12
def test_a_resumed_prior_ends_with_the_same_bits(tmp_path: Path, checkpoints: int) -> None:
    undisturbed = fitted(tmp_path / "undisturbed")
    with pytest.raises(Interrupted):
        fitted(tmp_path / "interrupted", checkpoints=checkpoints)
    assert_same_bits(fitted(tmp_path / "interrupted"), undisturbed)


def test_two_trainings_under_one_key_give_the_same_bits(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = trained(tmp_path / "first", classifier())
    torch.manual_seed(2)
    assert_same_bits(trained(tmp_path / "second", classifier()), first)


def test_a_training_that_diverges_says_where_and_what_to_lower(tmp_path: Path) -> None:
    expected = r"^loss became (nan|inf) at epoch 0, step [0-3], lr 1e\+30: lower training\.lr\.$"
    with pytest.raises(DivergedError, match=expected):
        trained(tmp_path, classifier(lr=1e30))


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
