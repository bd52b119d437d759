"""What defenses do within the training loop: the images it shows, the targets, the loss and the step, by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from tests.support.interruptions import context_at
from tests.support.training import Linear, assert_biases, black, epochs_of
from workloads.context import DataInput
from workloads.core.randomness import generator
from workloads.datasets.base import ImageSet
from workloads.datasets.digits import DigitsConfig
from workloads.defenses.base import DEFENSES, Batch, Defense, DefenseConfig, TrainingFacts
from workloads.defenses.dp_sgd import DpSgdConfig
from workloads.defenses.random_erasing import RandomErasingConfig
from workloads.jobs.fit_surrogate import FitSurrogate, FitSurrogateConfig
from workloads.models.base import Classifier
from workloads.models.small_cnn import SmallCnnConfig
from workloads.recipes.optimization import TrainingConfig
from workloads.training.classifiers import Architecture, fresh_classifier, load_classifier, save_classifier

CORNER = RandomErasingConfig(min_area=0.25, max_area=0.25, location="fixed_corner", fill=7.0)  # 2 x 2 of 4 x 4 pixels


def build(config: DefenseConfig, *, images: int, size: int = 4) -> Defense:
    facts = {"image_shape": (1, size, size), "channel_mean": torch.zeros(1), "batch_size": images}
    values: dict[str, Any] = {**facts, "generator": lambda *name: generator("job", *name)}
    return DEFENSES.build(config, facts=TrainingFacts(images=images, **values))


# Images


def test_the_network_is_shown_every_image_erased(tmp_path: Path) -> None:
    model, images = Linear([0.0, 0.5]), torch.full((8, 1, 4, 4), 255, dtype=torch.uint8)
    data = ImageSet(images, torch.arange(8) % 2, ("a", "b"))
    epochs_of(tmp_path, model, data, defenses=[build(CORNER, images=8)], batch_size=4)
    expected = torch.ones(4, 1, 4, 4)
    expected[:, :, :2, :2] = 7
    assert len(model.shown) == 2
    assert all(torch.equal(shown, expected) for shown in model.shown)


def test_a_box_stays_where_it_is_when_the_image_under_it_is_mirrored(tmp_path: Path) -> None:
    images = torch.zeros(16, 1, 4, 4, dtype=torch.uint8)
    images[..., :2] = 255
    data = ImageSet(images, torch.zeros(16).long(), ("a", "b"))
    model, erasing = Linear([0.0, 0.5]), build(CORNER, images=16)
    epochs_of(tmp_path, model, data, defenses=[erasing], augmentation={"flip": True})
    (shown,) = model.shown
    assert (shown[..., :2, :2] == 7).all() and (shown[..., :2, 2:] != 7).all()
    assert set(shown[:, 0, 3, 0].tolist()) == {0.0, 1.0}, "some are mirrored, some are not"


# Loss


class Charge(Defense):
    """Charges a rate for the bias of class 1, and keeps the batches it charges for."""

    def __init__(self, rate: float, model: Linear) -> None:
        facts = TrainingFacts(1, (1, 1, 1), torch.zeros(1), lambda *purpose: torch.Generator())
        super().__init__(DefenseConfig(kind="charge"), facts=facts)
        self.rate, self.model = rate, model
        self.charged: list[Batch] = []

    def penalty(self, batch: Batch) -> Tensor:
        self.charged.append(batch)
        return self.rate * self.model.head.bias[1]


def test_the_loss_is_the_cross_entropy_and_what_every_defense_charges(tmp_path: Path) -> None:
    model = Linear([0.0, 0.5])
    charges = [Charge(0.2, model), Charge(0.4, model)]
    (metrics,) = epochs_of(tmp_path, model, black([0] * 4), defenses=charges)
    # The gradient of the cross-entropy is (-0.622459, 0.622459), and 0.2 + 0.4 is charged for the second bias.
    assert metrics["train_loss"] == pytest.approx(math.log1p(math.exp(0.5)) + 0.6 * 0.5, abs=1e-6)
    assert_biases(model, 0.15 * 0.622459, 0.5 - 0.15 * 1.222459)


def test_a_defense_charges_for_the_images_as_the_network_saw_them(tmp_path: Path) -> None:
    model = Linear([0.0, 0.5])
    charge = Charge(0.2, model)
    epochs_of(tmp_path, model, black([0] * 4), defenses=[charge, build(CORNER, images=4)])
    assert torch.equal(charge.charged[0].images, model.shown[0])
    assert (model.shown[0][..., :2, :2] == 7).all()


# DP-SGD


def privately_trained(folder: Path, labels: list[int], config: DpSgdConfig, *, size: int = 4) -> Linear:
    """One step on black images of these classes, whose gradients are +-(0.622459, -0.622459) or +-0.377541 of that."""
    model = Linear([0.0, 0.5], size=size)
    defense = build(config, images=len(labels), size=size)
    epochs_of(folder, model, black(labels, size=size), defenses=[defense])
    return model


@pytest.mark.parametrize(
    ("clip", "step"),
    [
        # Norms are sqrt(2) times 0.622459 and 0.377541, so 0.6 bounds those of class 0 to 0.6 / sqrt(2) a bias:
        # (3 x 0.424264 - 0.377541) / 4.
        (0.6, 0.223813),
        (0.3, 0.106066),  # (3 - 1) x 0.212132 / 4
        (9.0, 0.372459),  # (3 x 0.622459 - 0.377541) / 4
    ],
)
def test_a_private_step_bounds_what_each_image_contributes(tmp_path: Path, clip: float, step: float) -> None:
    config = DpSgdConfig(clip=clip, noise_multiplier=1e-9)
    model = privately_trained(tmp_path, [0, 0, 0, 1], config)
    assert_biases(model, 0.15 * step, 0.5 - 0.15 * step)


@pytest.mark.parametrize(("noise_multiplier", "clip"), [(1.0, 0.6), (2.0, 0.6), (1.0, 3.0)])
def test_the_noise_of_a_private_step_has_the_scale_it_is_accounted_with(
    tmp_path: Path, noise_multiplier: float, clip: float
) -> None:
    config = DpSgdConfig(clip=clip, noise_multiplier=noise_multiplier)
    moved = privately_trained(tmp_path, [0, 0, 0, 1], config, size=32).head.weight.detach().double()
    # Weights of black pixels have no gradient: what moves them is noise, divided by the 4 images as the gradient is.
    expected = 0.15 * noise_multiplier * clip / 4
    assert moved.square().mean().sqrt().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * moved.numel()))
    assert moved.mean().item() == pytest.approx(0, abs=5 * expected / math.sqrt(moved.numel()))


# Surrogates


PUBLIC = torch.randint(256, (12, 1, 16, 16), generator=generator("test", "public"), dtype=torch.uint8)
CLASSES = 3


def architecture(width: int) -> Architecture:
    return Architecture(model=SmallCnnConfig(width=width, stages=2), classes=CLASSES, channels=1, image_size=16)


def saved_target(folder: Path) -> Classifier:
    """Stored, with probabilities worth learning: neither equal nor all in one class."""
    folder.mkdir()
    model = architecture(4).build()
    model.draw_weights(generator("test", "target"))
    save_classifier(folder, model, architecture(4))
    return load_classifier(folder, device=torch.device("cpu"))


@pytest.mark.parametrize("answers", ["scores", "labels"])
def test_a_surrogate_learns_what_the_target_answers(tmp_path: Path, answers: Literal["scores", "labels"]) -> None:
    target_model = saved_target(tmp_path / "target")
    context, losses = context_at(tmp_path / "surrogate"), list[float]()
    context.inputs = {"target": tmp_path / "target"}
    # Nobody knows who is on public images, and what their own classes are must not matter.
    context.load_images = lambda data: ImageSet(PUBLIC, torch.zeros(12).long(), ("nobody",))
    context.on_progress = lambda progress: losses.append(progress.metrics["train_loss"])
    config = FitSurrogateConfig(
        answers=answers,
        data=DataInput(dataset=DigitsConfig(), digest=""),
        model=SmallCnnConfig(width=2, stages=2),
        training=TrainingConfig(epochs=1, batch_size=12),
    )
    FitSurrogate(config).run(context)
    told = target_model(PUBLIC / 255).softmax(1)
    wanted = told if answers == "scores" else (told == told.max(1, keepdim=True).values).float()
    untrained = fresh_classifier(architecture(2), context, "initialization").train()(PUBLIC / 255)
    expected = -(wanted * untrained.log_softmax(1)).sum(1).mean()
    assert told.max(1).values.max() < 0.99
    assert losses == pytest.approx([expected.item()], rel=1e-5)
