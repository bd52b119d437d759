"""DeepInversion against an independent loop of torch's own batch norm and optimiser; its terms and queries by hand."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from orchestrator.errors import SpecError
from tests.support.draws import drawn
from tests.support.golden_networks import IDENTITIES, TinyClassifier, golden_networks
from tests.support.interruptions import Interrupted, context_at
from tests.support.toy import toy_sweep
from workloads.attacks.deepinversion import (
    Deepinversion,
    DeepinversionConfig,
    batch_norms,
    statistics_gap,
    total_variation,
)
from workloads.core.errors import ConfigError
from workloads.inversion.attack import Access, Reconstructions
from workloads.inversion.folded_networks import folded
from workloads.inversion.rows import Rows
from workloads.inversion.step import Step
from workloads.models.base import MODELS
from workloads.models.small_cnn import SmallCnnConfig
from workloads.models.vit_b_16 import VitB16Config
from workloads.observation.oracles import OpenClassifier, WhiteBoxOracle

CPU = torch.device("cpu")
SIDE = 8
ROWS = Rows(torch.tensor([4, 1]), torch.tensor([0, 2]), "key")
SMALL: dict[str, Any] = {"images": 4, "keep": 4, "statistics_weight": 0.1}
STILL: dict[str, Any] = {"shift": 0.0, "flip": 0.0}


def access_to(target: OpenClassifier, original: OpenClassifier | None = None) -> Access[WhiteBoxOracle]:
    return Access(WhiteBoxOracle(target, original=original), CPU, image_size=SIDE)


# Terms


def test_a_gap_is_the_distance_of_mean_and_of_variance_by_hand() -> None:
    norm = nn.BatchNorm2d(2)
    norm.running_mean, norm.running_var = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    # Two images of 1 x 2 pixels; channel 0 holds 3, 5, 3, 5 (mean 4, variance 1), channel 1 holds 4 throughout.
    read = torch.tensor([[[[3.0, 5.0]], [[4.0, 4.0]]], [[[3.0, 5.0]], [[4.0, 4.0]]]])
    # means (4, 4) from (1, 0): 5; variances (1, 0) from (0, 1): sqrt(2)
    assert statistics_gap(norm, read[None]).tolist() == pytest.approx([5 + math.sqrt(2)])


def test_total_variation_by_hand() -> None:
    batch = torch.tensor([[[[[0.0, 3.0], [4.0, 8.0]]]]])
    # right: 3, 4; below: 4, 5; diagonals: 4 - 3 and 0 - 8
    expected = 5 + math.sqrt(41) + 1 + 8
    assert total_variation(batch).tolist() == pytest.approx([expected])


def test_the_rate_rises_to_its_full_value_and_falls_to_nothing() -> None:
    attack = Deepinversion(DeepinversionConfig(steps=300, warmup=100))
    factors = [attack.schedule(step) for step in (0, 99, 100, 200, 300)]
    assert factors == pytest.approx([0.01, 1, 1, 0.5, 0])


def test_fewer_steps_than_warm_up_have_a_rate_as_well() -> None:
    attack = Deepinversion(DeepinversionConfig(steps=3, warmup=3))
    assert [attack.schedule(step) for step in range(3)] == pytest.approx([1 / 3, 2 / 3, 1])


# The search. The reference is one batch alone, whose statistics a batch norm in training mode measures itself.


def measured_gap(target: TinyClassifier, images: Tensor) -> Tensor:
    """Distances of statistics, the first batch norm's ten times, as torch's batch norms update their own."""
    gaps, shown = [], images
    for layer in copy.deepcopy(target).body:
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            flat = shown.transpose(0, 1).flatten(1)
            mean, variance = flat.mean(1), flat.var(1, unbiased=False)
            gaps.append((mean - layer.running_mean).norm() + (variance - layer.running_var).norm())
        shown = layer(shown)
    return 10 * gaps[0] + gaps[1]


def independent(
    target: TinyClassifier, start: Tensor, identity: int, config: DeepinversionConfig, steps: int
) -> Tensor:
    """Variables of one batch after `steps` steps."""
    variables = start.clone().requires_grad_(True)
    adam = torch.optim.Adam([variables], lr=config.lr, betas=config.betas)
    for step in range(steps):
        adam.param_groups[0]["lr"] = config.lr * (step + 1) / config.warmup
        images = 0.5 + variables / 4
        loss = F.cross_entropy(target(images), torch.full((len(start),), identity))
        loss = loss + config.statistics_weight * measured_gap(target, images)
        right, below = variables.diff(dim=-1), variables.diff(dim=-2)
        falling = variables[..., 1:, 1:] - variables[..., :-1, :-1]
        rising = variables[..., 1:, :-1] - variables[..., :-1, 1:]
        loss = loss + config.variation_weight * sum(
            differences.norm() for differences in (right, below, falling, rising)
        )
        loss = loss + config.norm_weight * variables.flatten(1).norm(dim=1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        variables.data.clamp_(-2, 2)  # pixels in [0, 1]
    return variables.detach()


def test_batches_side_by_side_move_as_each_alone_by_torchs_own_parts() -> None:
    config = DeepinversionConfig(**SMALL, **STILL, variation_weight=0.01, norm_weight=0.02)
    attack, target = Deepinversion(config), golden_networks().target
    start = drawn(len(ROWS), 4, 3, SIDE, SIDE, purpose="start")
    variables = {"images": start}
    state = {"variables": variables, "memory": attack.descent.rule.begin(variables), "kept": {}}
    for step in range(6):
        state, _ = attack.advance(access_to(target), state, ROWS, step)
    expected = [independent(target, start[row], int(ROWS.identities[row]), config, 6) for row in range(2)]
    # Adam divides by gradients, some of them nearly 0, so that fewer than all 15 digits agree
    torch.testing.assert_close(state["variables"]["images"], torch.stack(expected), rtol=0.0, atol=1e-8)


def test_statistics_are_those_of_the_model_as_it_was_trained_not_of_its_folded_copy() -> None:
    original = golden_networks().target
    images = drawn(8, 3, SIDE, SIDE, purpose="images").sigmoid()
    faster = folded(original, lambda network: network(images))
    attack, identities = Deepinversion(DeepinversionConfig(**SMALL)), torch.arange(8) % IDENTITIES
    losses = attack.objective.losses(access_to(faster, original), images, identities)
    assert batch_norms(faster) == []
    torch.testing.assert_close(losses, attack.objective.losses(access_to(original), images, identities))


def test_no_hook_stays_on_the_target() -> None:
    target = golden_networks().target
    images = drawn(4, 3, SIDE, SIDE, purpose="images")
    Deepinversion(DeepinversionConfig(**SMALL)).objective.losses(access_to(target), images, torch.arange(4))
    assert not any(layer._forward_pre_hooks for layer in target.modules())


def test_a_step_shows_each_batch_rolled_by_draws_of_its_row() -> None:
    class Watched(WhiteBoxOracle):
        def logits_and_inputs(
            self, images: Tensor, layers: Sequence[nn.Module]
        ) -> tuple[Tensor, list[tuple[nn.Module, Tensor]]]:
            shown.append(images)
            return super().logits_and_inputs(images, layers)

    shown: list[Tensor] = []
    target = golden_networks().target
    access = Access(Watched(target), CPU, image_size=SIDE)
    attack = Deepinversion(DeepinversionConfig(**SMALL, shift=0.25, flip=0.0))
    point = torch.full((2, 4, 3, SIDE, SIDE), -2.0, dtype=torch.float64)
    point[..., 4, 4] = 2.0
    for step in range(40):
        attack.losses(access, {"images": point}, ROWS, Step.at(step, device=CPU))
    places = torch.stack(shown).unflatten(1, (2, 4))[:, :, :, 0].flatten(3).argmax(3)  # (step, row, image)
    assert (places == places[:, :, :1]).all()  # a batch moves as one
    assert (places[:, 0, 0] != places[:, 1, 0]).any()
    down, across = places // SIDE - 4, places % SIDE - 4
    assert [number.item() for number in (*down.aminmax(), *across.aminmax())] == [-2, 2, -2, 2]  # a quarter of 8 pixels


# The whole attack, in float32 as a job runs it.


def attacked(folder: Path, *, stop_at: int | None = None, **settings: Any) -> Reconstructions:
    attack = Deepinversion(DeepinversionConfig(**{**SMALL, "steps": 30, "warmup": 5, **settings}))
    access = access_to(golden_networks(torch.float32).target)
    return attack.run(access, torch.arange(IDENTITIES), context=context_at(folder, stop_at=stop_at))


def test_reconstructions_are_named_as_wanted(tmp_path: Path) -> None:
    reconstructions = attacked(tmp_path, **STILL, statistics_weight=0.01, steps=60)
    named = golden_networks(torch.float32).target(reconstructions.images).argmax(1)
    assert torch.equal(named, reconstructions.identities)
    assert reconstructions.identities.tolist() == [identity for identity in range(IDENTITIES) for _ in range(4)]


def test_images_lie_in_the_unit_range(tmp_path: Path) -> None:
    reconstructions = attacked(tmp_path)
    assert [number.item() for number in reconstructions.images.aminmax()] == [0, 1]


def test_queries_are_the_images_of_each_step_and_once_each_at_the_end(tmp_path: Path) -> None:
    assert attacked(tmp_path).queries == IDENTITIES * 4 * 30 + IDENTITIES * 4


@pytest.mark.parametrize("chunk_rows", [1, 4])
def test_the_size_of_a_chunk_changes_no_more_than_float_rounding(tmp_path: Path, chunk_rows: int) -> None:
    unsplit = attacked(tmp_path / "whole", steps=10)
    parts = attacked(tmp_path / "parts", steps=10, chunk_rows=chunk_rows)
    # Adam divides by gradients: where one is nearly 0, its rounding is a part of a whole step of 0.25.
    torch.testing.assert_close(parts.images, unsplit.images, rtol=0.0, atol=1e-2)


def test_a_resumed_attack_ends_with_the_same_bits(tmp_path: Path) -> None:
    undisturbed = attacked(tmp_path / "undisturbed")
    with pytest.raises(Interrupted):
        attacked(tmp_path / "interrupted", stop_at=25)
    resumed = attacked(tmp_path / "interrupted")
    assert torch.equal(resumed.images, undisturbed.images)
    assert resumed.queries == undisturbed.queries


def test_the_attack_leaves_every_weight_and_statistic_as_it_was(tmp_path: Path) -> None:
    target, before = golden_networks(torch.float32).target, golden_networks(torch.float32).target.state_dict()
    attack = Deepinversion(DeepinversionConfig(**SMALL, steps=2))
    attack.run(access_to(target), torch.arange(IDENTITIES), context=context_at(tmp_path))
    after = target.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(weight.grad is None for weight in target.parameters())


def test_keeping_more_than_are_made_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValidationError, match="keep 9 is above the 8 made of each identity: lower it or make more"):
        DeepinversionConfig(restarts=2, images=4, keep=9)


# Targets


def test_a_target_with_batch_norms_is_accepted() -> None:
    with torch.device("meta"):
        model = MODELS.build(SmallCnnConfig(), classes=3, channels=3, image_size=32)
    Deepinversion(DeepinversionConfig()).check_target(model)


def test_a_target_without_batch_norms_is_refused_with_the_way_out() -> None:
    with torch.device("meta"):
        model = MODELS.build(VitB16Config(), classes=3, channels=3, image_size=32)
    with pytest.raises(ConfigError, match="and vit_b_16 keeps none: attack a target that does, such as small_cnn, or"):
        Deepinversion(DeepinversionConfig()).check_target(model)


def test_a_spec_that_attacks_a_target_without_batch_norms_is_refused_before_it_starts(tmp_path: Path) -> None:
    target = {"model": {"kind": "vit_b_16"}, "training": {"epochs": 1}}
    search = {"objectives": [{"metric": "natural_accuracy", "goal": "max"}]}
    attacks = [{"kind": "deepinversion"}]
    with pytest.raises(
        SpecError, match=r"attacks\.0: deepinversion compares images with the statistics of batch norms"
    ):
        toy_sweep(tmp_path, tmp_path / "runs", target=target, attacks=attacks, search=search)
