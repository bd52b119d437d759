"""The attacker who knows the defense: what it asks of the target, and of whom."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.golden_networks import IDENTITIES, golden_networks
from tests.support.interruptions import context_at
from tests.support.lenses import CountingLens
from workloads.attacks.brepmi import BrepmiConfig
from workloads.attacks.deepinversion import DeepinversionConfig
from workloads.attacks.erasing_aware import ErasedView, ErasingAware, ErasingAwareConfig
from workloads.attacks.gmi import Gmi, GmiConfig
from workloads.attacks.lomma import GmiHost, LommaConfig
from workloads.attacks.mirror import MirrorConfig
from workloads.attacks.vmi import VmiConfig
from workloads.core.errors import ConfigError
from workloads.core.randomness import Draws, generator
from workloads.defenses.random_erasing import RandomErasingConfig
from workloads.inversion.attack import ATTACKS, Access, AttackConfig, SearchConfig
from workloads.inversion.rows import Rows
from workloads.inversion.step import Step
from workloads.models.base import Classifier
from workloads.models.small_cnn import SmallCnnConfig
from workloads.observation.oracles import WhiteBoxOracle
from workloads.training.classifiers import Architecture

CPU = torch.device("cpu")
ERASING = RandomErasingConfig(min_area=0.3, max_area=0.3)
HOST = GmiConfig(restarts=2, keep=2, steps=4, batch_reference=6)


def target_model(size: int = 8) -> Classifier:
    model = Architecture(
        model=SmallCnnConfig(width=4, stages=2), classes=IDENTITIES, channels=3, image_size=size
    ).build()
    model.draw_weights(generator("test", "target"))
    return model.eval().requires_grad_(False)


def access_to(model: Classifier | None = None) -> Access[WhiteBoxOracle]:
    prior = golden_networks(torch.float32).prior()
    public = torch.full((4, 3, 8, 8), 51, dtype=torch.uint8)  # 0.2 of white
    return Access(WhiteBoxOracle(model or target_model()), CPU, image_size=8, prior=prior, public_images=public)


# The view through a box.


def through_boxes(images: Tensor, erasing: RandomErasingConfig = ERASING, colour: float = 0.2) -> Tensor:
    rows = Rows.of(torch.arange(len(images)), 1, key="test")
    view = ErasedView(erasing, torch.full((3,), colour), WhiteBoxOracle(target_model()))
    return view(images, rows.draws("boxes"))


def test_a_box_of_the_law_is_hidden_and_the_rest_stays() -> None:
    """A square of 0.3 x 64 pixels has a side of 4.38, rounded 4."""
    shown = torch.ones(5, 3, 8, 8)
    hidden = (through_boxes(shown) - shown).abs() > 1e-6
    assert hidden[:, 0].flatten(1).sum(1).tolist() == [16] * 5


def test_the_box_has_the_colour_of_public_images() -> None:
    erased = through_boxes(torch.ones(5, 3, 8, 8))
    torch.testing.assert_close(erased.flatten(1).min(1).values, torch.full((5,), 0.2), rtol=0, atol=1e-6)


def test_the_official_colour_is_painted_after_normalisation() -> None:
    """The model's mean and deviation are 0.5: 0.485 becomes 0.5 x 0.485 + 0.5."""
    erased = through_boxes(torch.zeros(1, 3, 8, 8), ERASING.model_copy(update={"fill": "official"}))
    expected = torch.tensor([0.7425, 0.728, 0.703])
    torch.testing.assert_close(erased.amax((0, 2, 3)), expected, rtol=0, atol=1e-6)


def test_no_gradient_comes_from_under_a_box() -> None:
    shown = torch.rand(3, 3, 8, 8, generator=generator("test", "shown")).requires_grad_(True)
    erased = through_boxes(shown)
    (slope,) = torch.autograd.grad(erased.sum(), shown)
    hidden = (erased.detach() - shown.detach()).abs() > 1e-4
    torch.testing.assert_close(slope, (~hidden).float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("fill", ["mean", "pixel_noise", "box_colour"])
def test_the_boxes_of_an_image_do_not_depend_on_its_batch(fill: str) -> None:
    erasing = ERASING.model_copy(update={"fill": fill})
    shown = torch.rand(6, 3, 8, 8, generator=generator("test", "shown"))
    rows = Rows.of(torch.arange(6), 1, key="test")
    view = ErasedView(erasing, torch.full((3,), 0.2), WhiteBoxOracle(target_model()))
    alone = view(shown[4:5], rows[4:5].draws("boxes"))
    assert torch.equal(view(shown, rows.draws("boxes"))[4:5], alone)


# The attack around it.


def test_it_uses_the_law_of_the_targets_own_defense() -> None:
    config = ErasingAwareConfig(host=HOST).against([ERASING])
    assert isinstance(config, ErasingAwareConfig)
    assert config.erasing == ERASING


def test_against_an_undefended_target_it_is_its_host() -> None:
    assert ErasingAwareConfig(host=HOST).against([]) == HOST


def test_a_law_of_its_own_comes_before_that_of_the_defense() -> None:
    erasing = RandomErasingConfig(max_area=0.9)
    config = ErasingAwareConfig(host=HOST, erasing=erasing).against([ERASING])
    assert isinstance(config, ErasingAwareConfig)
    assert config.erasing == erasing


def test_boxes_that_hide_nothing_leave_the_host_as_it_was(tmp_path: Path) -> None:
    nothing = RandomErasingConfig(probability=0.0)
    wrapped = ErasingAware(ErasingAwareConfig(host=HOST, erasing=nothing))
    unerased = wrapped.run(access_to(), torch.arange(IDENTITIES), context=context_at(tmp_path / "a"))
    plain = Gmi(HOST).run(access_to(), torch.arange(IDENTITIES), context=context_at(tmp_path / "b"))
    torch.testing.assert_close(
        unerased.latents, plain.latents, rtol=0, atol=1e-4
    )  # x goes through (x - m) / s and back


def test_every_draw_of_boxes_is_a_query(tmp_path: Path) -> None:
    attack = ErasingAware(ErasingAwareConfig(host=HOST, erasing=ERASING, draws=3))
    reconstructions = attack.run(access_to(), torch.arange(IDENTITIES), context=context_at(tmp_path))
    assert reconstructions.queries == 12 * 4 * 3 + 12  # rows x steps x draws, and the final images, whole


def test_the_loss_is_a_mean_over_draws() -> None:
    """Where nothing is hidden every draw is the same view, so their number must not change the loss."""
    nothing, rows = RandomErasingConfig(probability=0.0), Rows.of(torch.arange(IDENTITIES), 1, key="test")
    losses = []
    for draws in (1, 4):
        access = access_to()
        boxes = ErasedView(nothing, torch.full((3,), 0.2), access.target)
        seeing = replace(access, lenses=(boxes,) * draws)
        latents = {"latents": torch.ones(IDENTITIES, 8) / 2}
        losses.append(Gmi(HOST).losses(seeing, latents, rows, Step.at(0, device=CPU)))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-5)


def test_every_step_and_every_draw_has_boxes_of_its_own() -> None:
    access, rows = access_to(), Rows.of(torch.arange(IDENTITIES), 1, key="test")
    latents = {"latents": torch.ones(IDENTITIES, 8) / 2}
    lens = ErasedView(ERASING, torch.full((3,), 0.2), access.target)
    first, next_step, two_draws = (
        Gmi(HOST).losses(replace(access, lenses=(lens,) * draws), latents, rows, Step.at(step, device=CPU))
        for draws, step in ((1, 0), (1, 1), (2, 0))
    )
    assert not torch.equal(first, next_step) and not torch.equal(first, two_draws)


@pytest.mark.parametrize(
    ("host", "images"),  # and how many of a row are looked at in each step
    [
        (HOST, 1),
        (LommaConfig(host=GmiHost(restarts=1, steps=3, batch_reference=6), distillation=None), 1),
        (VmiConfig(restarts=1, samples=4, draws=2, keep=2, steps=3), 4),
        (DeepinversionConfig(restarts=1, images=3, keep=3, steps=3), 3),
    ],
)
def test_every_look_of_an_objective_goes_through_the_lens(tmp_path: Path, host: SearchConfig, images: int) -> None:
    lens = CountingLens()
    access = replace(access_to(), lenses=(lens,))
    reconstructions = ATTACKS.build(host).run(access, torch.arange(IDENTITIES), context=context_at(tmp_path))
    assert lens.passed == reconstructions.latent_steps * images


def test_images_of_one_row_are_seen_through_boxes_of_their_own() -> None:
    """All of a flat image's views differ only by their boxes."""
    access, shown = access_to(), []

    class Shown(ErasedView):
        def __call__(self, images: Tensor, draws: Draws) -> Tensor:
            shown.append(super().__call__(images, draws))
            return shown[-1]

    rows, lens = Rows.of(torch.arange(IDENTITIES), 1, key="test"), Shown(ERASING, torch.full((3,), 0.2), access.target)
    Gmi(HOST).viewed_losses(
        replace(access, lenses=(lens,)), torch.ones(4 * IDENTITIES, 3, 8, 8), rows, Step.at(0, device=CPU)
    )
    of_first_row = shown[0][:4]
    assert len(of_first_row.flatten(1).unique(dim=0)) > 1


@pytest.mark.parametrize("host", [BrepmiConfig(), MirrorConfig(search="genetic"), ErasingAwareConfig(host=HOST)])
def test_an_attack_without_gradients_through_the_target_cannot_be_wrapped(host: AttackConfig) -> None:
    config = ErasingAwareConfig(host=host, erasing=ERASING)
    with pytest.raises(ConfigError, match=f"host: {host.kind} does not descend on the target model itself"):
        ErasingAware(config).check(prior=golden_networks().prior(), classes=IDENTITIES)
