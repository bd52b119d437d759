"""The simpler defenses by hand, what privacy costs by formula, and that a defense is one file."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from workloads.core.errors import ConfigError
from workloads.core.randomness import generator
from workloads.defenses.base import DEFENSES, Batch, Defense, DefenseConfig, TrainingFacts
from workloads.defenses.bido import BidoConfig
from workloads.defenses.cutmix import CutmixConfig, _beta
from workloads.defenses.cutout import CutoutConfig, squares
from workloads.defenses.dp_sgd import DpSgdConfig, epsilon
from workloads.defenses.grid_mask import GridMaskConfig, lattice
from workloads.defenses.hide_and_seek import HideAndSeekConfig
from workloads.defenses.random_erasing import RandomErasingConfig
from workloads.defenses.rolss import RolssConfig
from workloads.defenses.tl_dmi import TlDmi, TlDmiConfig
from workloads.defenses.trap_mid import TrapMidConfig
from workloads.models.base import MODELS, Classifier, initialize
from workloads.models.resnet import ResnetConfig
from workloads.models.small_cnn import SmallCnnConfig
from workloads.models.vit_b_16 import VitB16Config
from workloads.training.classifiers import Architecture

MANY = 4000


def draws(name: str = "draws") -> torch.Generator:
    return generator("test", name)


def build(config: DefenseConfig, **facts: Any) -> Defense:
    defaults: dict[str, Any] = {"images": 100, "image_shape": (3, 16, 16), "channel_mean": torch.full((3,), 0.25)}
    defaults["generator"] = lambda *name: generator("job", *name)
    return DEFENSES.build(config, facts=TrainingFacts(**{**defaults, **facts}))


def batch_of(images: Tensor, identities: Tensor, classes: int) -> Batch:
    rows = len(images)
    targets = F.one_hot(identities, classes).float()
    return Batch(images, torch.arange(rows), targets, torch.full((rows,), 1 / rows))


# Occlusion


def test_cutout_hides_the_centre_in_a_quarter_of_the_images_and_a_corner_in_a_tenth() -> None:
    # A square of side 8 about pixel c covers pixels c - 4 to c + 3. Pixel 8 is covered by 8 of the 16 centres along an
    # axis, pixel 0 by the 5 centres from 0 to 4.
    images = build(CutoutConfig()).augment(torch.ones(MANY, 3, 16, 16), indices=torch.arange(MANY), generator=draws())
    hidden = (images[:, 0] == 0).double().mean(0)
    assert hidden[8, 8].item() == pytest.approx(1 / 4, abs=5 * math.sqrt(3 / 16 / MANY))
    assert hidden[0, 0].item() == pytest.approx((5 / 16) ** 2, abs=5 * math.sqrt(0.09 / MANY))


def test_cutout_squares_end_at_the_edges() -> None:
    boxes = squares(MANY, (16, 16), CutoutConfig(), generator=draws())
    assert (boxes.top >= 0).all() and (boxes.top + boxes.height <= 16).all()
    assert boxes.height.max() == 8 and boxes.height.min() == 4


def test_cutout_spares_the_share_it_is_told_to() -> None:
    boxes = squares(MANY, (16, 16), CutoutConfig(probability=0.25), generator=draws())
    hit = (boxes.height > 0).double().mean().item()
    assert hit == pytest.approx(0.25, abs=5 * math.sqrt(3 / 16 / MANY))


def test_a_lattice_hides_the_square_of_its_share() -> None:
    hidden = lattice(MANY, (64, 64), GridMaskConfig(hidden=0.5), generator=draws())
    assert hidden.double().mean().item() == pytest.approx(0.25, abs=0.01)


def test_a_lattice_of_known_period_is_made_of_equal_squares() -> None:
    config = GridMaskConfig(min_period=0.25, max_period=0.25)
    (hidden,) = lattice(1, (32, 32), config, generator=draws())
    row = hidden.any(0)
    lengths = [len(run) for run in "".join("x" if cell else " " for cell in row).split()]
    assert all(length == 4 for length in lengths[1:-1]) and len(lengths) >= 4


def test_hide_and_seek_hides_whole_cells_in_the_mean_colour() -> None:
    defense = build(HideAndSeekConfig(cells=4, hidden=0.5))
    images = defense.augment(torch.ones(MANY, 3, 16, 16), indices=torch.arange(MANY), generator=draws())
    cells = images[:, 0].unflatten(1, (4, 4)).unflatten(3, (4, 4))
    assert torch.equal(cells.amin((2, 4)), cells.amax((2, 4))), "a cell is hidden whole or not at all"
    assert set(images.unique().tolist()) == {0.25, 1.0}
    hidden = (images == 0.25).double().mean().item()
    assert hidden == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(16 * MANY))


def test_cutmix_wants_each_identity_in_the_proportion_it_is_seen() -> None:
    rows = 64
    images = torch.arange(float(rows))[:, None, None, None].expand(-1, 3, 16, 16).clone()
    batch = build(CutmixConfig()).prepare(batch_of(images, torch.arange(rows), rows), generator=draws())
    seen = torch.stack([(batch.images[:, 0] == identity).flatten(1).float().mean(1) for identity in range(rows)], 1)
    torch.testing.assert_close(batch.targets, seen, rtol=0, atol=1e-6)
    assert (batch.targets.max(1).values < 1).double().mean() > 0.5


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
def test_cutmix_keeps_a_fraction_by_the_beta_distribution(alpha: float) -> None:
    kept = _beta(alpha, MANY, draws(), torch.device("cpu"))
    assert stats.kstest(kept.flatten().numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


# Composition


def test_private_training_refuses_what_ties_images_together() -> None:
    with pytest.raises(ConfigError, match="bido ties images of a batch together: use one of the two"):
        DpSgdConfig().check_combination([RandomErasingConfig(), BidoConfig()])
    DpSgdConfig().check_combination([RandomErasingConfig()])


def test_trap_mids_images_are_erased_when_erasing_stands_behind_it() -> None:
    networks: Any = {
        "build_network": lambda outputs: network("discriminator", classes=outputs),
        "build_optimizer": lambda model: torch.optim.SGD(model.parameters(), lr=0.01),
    }
    trap = build(TrapMidConfig(blend=0.5), images=8, classes=2, **networks)
    erasing = build(RandomErasingConfig(min_area=0.25, max_area=0.25, fill=7.0), images=8)
    trap.start(network("private", classes=2))
    trap.begin_epoch(0)
    batch = trap.prepare(batch_of(torch.zeros(8, 3, 16, 16), torch.arange(8) % 2, 2), generator=draws())
    triggered = batch.images.clone()
    erased = erasing.prepare(batch, generator=draws("erasing")).images
    hidden = erased == 7
    assert len(erased) == 16 and (hidden.flatten(1).double().mean(1) == 0.25).all()
    assert torch.equal(erased[~hidden], triggered[~hidden])
    assert (triggered[:8] == 0).all() and (triggered[8:] != 0).double().mean() > 0.99


# TL-DMI


def network(seed: str, classes: int) -> Classifier:
    model = MODELS.build(SmallCnnConfig(width=2, stages=3), classes=classes, channels=3, image_size=16)
    initialize(model, generator("test", seed))
    return model


@pytest.mark.parametrize(("through", "frozen"), [(None, 1), ("stage1", 1), ("stage2", 2), ("stage3", 3)])
def test_early_stages_come_from_public_data_and_stay(through: str | None, frozen: int) -> None:
    public, model = network("public", classes=9), network("private", classes=4)
    assert isinstance(model.head, nn.Linear)
    head = model.head.weight.clone()
    defense = build(TlDmiConfig(through=through), pretrained=public.state_dict())
    defense.start(model)
    assert isinstance(defense, TlDmi)
    defense.begin_epoch(0)
    for name, tensor in model.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(tensor, public.state_dict()[name])
    assert torch.equal(model.head.weight, head)
    fixed = [not any(weight.requires_grad for weight in stage.parameters()) for _, stage in model.stages()]
    assert fixed == [index < frozen for index in range(3)]
    assert [stage.training for _, stage in model.stages()] == [index >= frozen for index in range(3)]


def test_a_stage_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"small_cnn has no stage 'layer4'\. Stages: stage1, stage2, stage3"):
        TlDmiConfig(through="layer4").change_model(network("private", classes=4))


# RoLSS


def residual(*defenses: DefenseConfig) -> Any:
    shape: Any = {"classes": 4, "channels": 3, "image_size": 64}
    return Architecture(model=ResnetConfig(), defenses=defenses, **shape).build().eval()


@pytest.mark.parametrize("kept", [1.0, 0.6, 0.0])
def test_weakened_shortcuts_of_the_last_stage_are_those_of_a_network_built_so(kept: float) -> None:
    plain = residual()
    plain.draw_weights(generator("test", "residual"))
    defended = residual(RolssConfig(factors=(1.0, 1.0, 1.0, kept)))
    missing, unexpected = defended.load_state_dict(plain.state_dict(), strict=False)
    assert not missing and all("layer4.0.downsample" in name for name in unexpected)
    images = torch.rand(2, 3, 64, 64, generator=draws())
    body = plain.body
    with torch.no_grad():
        maps = body.maxpool(body.relu(body.bn1(body.conv1(plain.normalize(images)))))
        maps = body.layer3(body.layer2(body.layer1(maps)))
        for block in body.layer4:
            shortcut = maps if block.downsample is None else block.downsample(maps)
            maps = block.bn2(block.conv2(block.bn1(block.conv1(maps)).relu()))
            maps = (maps + kept * shortcut).relu()
        expected = plain.head(maps.mean((2, 3)))
        torch.testing.assert_close(defended(images), expected, rtol=1e-5, atol=1e-5)
        assert torch.allclose(defended(images), plain(images), rtol=1e-3) is (kept == 1)


def test_by_default_the_last_stage_alone_has_no_shortcuts() -> None:
    names = [set(network.state_dict()) for network in (residual(), residual(RolssConfig()))]
    assert {name.split(".")[1] for name in names[0] - names[1]} == {"layer4"} and names[1] < names[0]


# DP-SGD


def test_epsilon_of_one_step_on_all_data_is_that_of_the_gaussian_mechanism() -> None:
    # Renyi divergence alpha / (2 sigma^2), turned into (epsilon, delta) as in Balle et al., AISTATS 2020, theorem 21.
    sigma, delta = 2.0, 1e-5
    orders = [1 + tenths / 10 for tenths in range(1, 100)] + list(range(12, 64))
    expected = min(
        order / (2 * sigma**2) + math.log((order - 1) / order) - (math.log(delta) + math.log(order)) / (order - 1)
        for order in orders
    )
    config = DpSgdConfig(noise_multiplier=sigma, delta=delta)
    assert epsilon(config, sample_rate=1.0, steps=1) == pytest.approx(expected, rel=1e-3)


def test_more_steps_and_less_noise_cost_more_privacy() -> None:
    def spent(noise: float, steps: int) -> float:
        return epsilon(DpSgdConfig(noise_multiplier=noise), sample_rate=0.1, steps=steps)

    assert spent(1.0, 10) < spent(1.0, 100) > spent(2.0, 100)


def test_group_norm_stands_where_batch_norm_stood() -> None:
    model = MODELS.build(ResnetConfig(), classes=3, channels=3, image_size=32)
    DpSgdConfig().change_model(model)
    kinds = [type(layer).__name__ for layer in model.modules()]
    assert "BatchNorm2d" not in kinds and kinds.count("GroupNorm") == 20


def test_a_network_whose_layers_opacus_does_not_know_is_refused() -> None:
    with torch.device("meta"):
        model = MODELS.build(VitB16Config(), classes=3, channels=3, image_size=32)
        with pytest.raises(ConfigError, match=r"dp_sgd cannot take vit_b_16 apart by images: .*Use another model"):
            DpSgdConfig().change_model(model)


def test_poisson_batches_have_the_size_asked_for_on_average() -> None:
    defense = build(DpSgdConfig(), images=MANY, batch_size=400)
    model = network("private", classes=4)
    defense.config.change_model(model)
    defense.start(model)
    batches = [len(batch) for round in range(20) for batch in defense.batches(generator=draws(str(round))) or ()]
    assert len(batches) == 200
    assert sum(batches) / 200 == pytest.approx(400, abs=5 * math.sqrt(MANY * 0.1 * 0.9 / 200))
    assert len(set(batches)) > 20


# One file

THROW_AWAY = '''
"""Brightens training images."""
from typing import Literal
from workloads.defenses.base import DEFENSES, Defense, DefenseConfig

class BrightenConfig(DefenseConfig):
    kind: Literal["brighten"] = "brighten"
    by: float = 0.5

@DEFENSES.register(BrightenConfig)
class Brighten(Defense):
    """Add a constant. Source: this test."""
    def augment(self, images, *, indices, generator):
        return images + self.config.by
'''
USE = """
import sys
import workloads.defenses
workloads.defenses.__path__.append(sys.argv[1])
from tests.support.toy import toy_sweep
from pathlib import Path
from orchestrator.executors.inline import InlineExecutor
sweep = toy_sweep(Path(sys.argv[1]), Path(sys.argv[1]) / "runs", defenses=[{"kind": "brighten"}],
                  search={"space": {"defenses.0.by": {"kind": "choice", "values": [0.1, 0.2]}}, "seeds": [0]})
print(sweep.run(InlineExecutor(), spec_file=None).trials_done)
"""


@pytest.mark.slow
def test_a_defense_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "brighten.py").write_text(THROW_AWAY)
    done = subprocess.run([sys.executable, "-c", USE, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "3", done.stderr
