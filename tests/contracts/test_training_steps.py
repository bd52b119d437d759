"""Every defense trains, and every stage is seen as it was put out, on a network of every family.

Defenses, families and formats are tried in pairs, not in all combinations, which would take minutes. Families are built
small; the largest ones are tried as they are without memory for their weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tests.support.components import config_for
from tests.support.tiny_networks import FAMILIES, use_tiny_bodies
from tests.support.training_steps import (
    CLASSES,
    IMAGES,
    NETWORKS_OF_LIBRARIES,
    SIZE,
    Format,
    images,
    member,
    public_classifier,
    step,
)
from workloads.core.errors import ConfigError
from workloads.core.numerics import deterministic
from workloads.core.randomness import generator
from workloads.defenses.base import DEFENSES, Batch, DefenseConfig, TrainingFacts
from workloads.defenses.bido import Bido
from workloads.defenses.dp_sgd import DpSgdConfig
from workloads.jobs import train_classifier
from workloads.metrics.perceptual_distance import _distance_of_halves
from workloads.models.base import (
    MODELS,
    Classifier,
    ModelConfig,
    check_trains,
    hook_stages,
    output_layer,
    stage_outputs,
)
from workloads.models.inception_2015 import Inception2015Config
from workloads.models.inception_v3 import InceptionV3Config
from workloads.models.maxvit_t import MaxvitTConfig
from workloads.models.resnest import ResnestConfig
from workloads.models.timm import TimmConfig
from workloads.models.torchvision import TorchvisionConfig
from workloads.training.classifiers import Architecture
from workloads.training.loop import train

LARGE: dict[str, tuple[ModelConfig, int]] = {
    "resnest50": (ResnestConfig(), 64),
    "inception_2015": (Inception2015Config(input_size=75), 32),
    "inception_v3": (InceptionV3Config(), 299),
    **{
        f"torchvision.{name}": (TorchvisionConfig(name=name), 64)
        for name in ("alexnet", "vgg11_bn", "efficientnet_b0", "convnext_tiny")
    },
    "timm.efficientnet_b0": (TimmConfig(name="efficientnet_b0"), 32),
}
"""Networks that are tried without memory for weights, and the side of their images."""
FORMATS: tuple[Format, ...] = tuple(itertools.product(("fp32", "tf32", "bf16"), (False, True)))
HOOK_NETWORKS = ("bido", "dp_sgd")
"""Defenses that hook the layers of a network; more networks are tried with them."""
COSTLY = ("facenet64", "facenet112", "facenet160", "inception_2015")
"""Families that are tried with `bido` alone, which reads every stage; the first two have the layers of ir152."""
NOT_RESIDUAL = ("small_cnn", "vgg16_bn", "densenet", "facenet160", "inception_2015", "torchvision", "timm")
REFUSED = {("dp_sgd", "maxvit_t"), ("dp_sgd", "vit_b_16"), *(("rolss", family) for family in NOT_RESIDUAL)}
"""Defenses that say before a run that they cannot defend a family."""


def pairs() -> list[tuple[str, str, Format]]:
    """Every defense with every family, and more networks where it matters; formats by turns."""
    tried = [
        (row + column, kind, name)
        for row, kind in enumerate(DEFENSES.kinds())
        for column, name in enumerate({**FAMILIES, **NETWORKS_OF_LIBRARIES})
        if (kind, name) not in REFUSED
        and (name not in COSTLY or kind == "bido")
        and (name not in NETWORKS_OF_LIBRARIES or kind in HOOK_NETWORKS)
    ]
    return [(kind, name, FORMATS[turn % len(FORMATS)]) for turn, kind, name in tried]


PAIRS = pairs()


@pytest.fixture
def tiny_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Families are built small."""
    use_tiny_bodies(monkeypatch)


class Captures:
    """What `hook_stages` and BiDO keep of a network's stages in a training, and copies taken at once."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.kept: list[Tensor] = []
        self.copies: list[Tensor] = []
        self.stages_never_seen: set[nn.Module] = set()
        self.kept_by_bido: list[Tensor] = []
        patch.setattr(train_classifier, "train", self._train)
        patch.setattr(Bido, "penalty", self._penalty(Bido.penalty))

    def _train(self, model: Classifier, *arguments: Any, **settings: Any) -> None:
        """Train with both kinds of hooks on every stage."""
        self.stages_never_seen = {output_layer(stage) for _, stage in model.stages()}
        hooks = [*hook_stages(model, self._keep), *hook_with_copies(model, self.copies)]
        train(model, *arguments, **settings)
        for hook in hooks:
            hook.remove()

    def _keep(self, layer: nn.Module, output: Tensor) -> None:
        self.stages_never_seen.discard(layer)
        self.kept.append(output)

    def _penalty(self, penalty: Callable[[Bido, Batch], Tensor]) -> Callable[[Bido, Batch], Tensor]:
        def watched(defense: Bido, batch: Batch) -> Tensor:
            self.kept_by_bido += defense._outputs
            return penalty(defense, batch)

        return watched


def hook_with_copies(model: Classifier, copies: list[Tensor]) -> list[RemovableHandle]:
    """Have a copy of what each stage puts out added to a list, whenever the network is run."""

    def copy(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        copies.append(output.detach().clone())

    return [output_layer(stage).register_forward_hook(copy) for _, stage in model.stages()]


def check(model: ModelConfig, size: int, *defenses: DefenseConfig) -> None:
    """Try a network in training mode without memory for its weights."""
    with torch.device("meta"):
        architecture = Architecture(model=model, classes=CLASSES, channels=3, image_size=size, defenses=defenses)
        network = architecture.build()
        for defense in defenses:
            defense.check_training(network)
        if not defenses:
            check_trains(network)


@pytest.mark.usefixtures("tiny_bodies")
@pytest.mark.parametrize(("kind", "name", "form"), PAIRS, ids=["-".join(map(str, pair)) for pair in PAIRS])
def test_a_defense_takes_a_step_and_every_stage_is_seen_as_it_was_put_out(
    tmp_path: Path, kind: str, name: str, form: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    captures = Captures(monkeypatch)
    inputs = public_classifier(tmp_path, name) if kind == "tl_dmi" else {}
    network = step(tmp_path, (config_for(DEFENSES, kind),), name, form, inputs)
    assert all(weight.isfinite().all() for weight in network.parameters())
    assert not captures.stages_never_seen
    assert all(torch.equal(*pair) for pair in zip(captures.kept, captures.copies, strict=True))
    assert len(captures.kept_by_bido) == (kind == "bido") * len(network.stages())
    assert kind != "bido" or all(
        torch.equal(*pair) for pair in zip(captures.kept_by_bido, captures.copies, strict=True)
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.usefixtures("tiny_bodies")
@pytest.mark.parametrize(("kind", "name", "form"), PAIRS, ids=["-".join(map(str, pair)) for pair in PAIRS])
def test_a_step_on_a_gpu_gives_the_same_bits_twice(tmp_path: Path, kind: str, name: str, form: Format) -> None:
    cuda = torch.device("cuda")
    inputs = public_classifier(tmp_path, name) if kind == "tl_dmi" else {}
    with deterministic(cuda):  # in tests, what has no deterministic form fails
        first, second = (step(tmp_path, (config_for(DEFENSES, kind),), name, form, inputs, device=cuda) for _ in "12")
    weights = second.state_dict()
    assert [name for name, tensor in first.state_dict().items() if not torch.equal(tensor, weights[name])] == []


@pytest.mark.usefixtures("tiny_bodies")
@pytest.mark.parametrize(("kind", "name"), sorted(REFUSED))
def test_a_defense_refuses_a_family_before_it_is_trained(kind: str, name: str) -> None:
    model, side = member(name)
    with pytest.raises(ConfigError):
        check(model, side, config_for(DEFENSES, kind))


def test_every_format_is_tried_with_every_defense_and_family() -> None:
    defenses = {(kind, form) for kind, _, form in PAIRS}
    families = {(name, form) for _, name, form in PAIRS}
    assert {kind for kind, form in itertools.product(DEFENSES.kinds(), FORMATS) if (kind, form) not in defenses} == {
        "rolss"  # few families have shortcuts
    }
    few = {name for name, form in itertools.product(FAMILIES, FORMATS) if (name, form) not in families}
    assert few == set(COSTLY)


def test_every_family_is_tried() -> None:
    assert {config.kind for config in FAMILIES.values()} | {"inception_v3"} == set(MODELS.kinds())


@pytest.mark.parametrize(("name", "distance"), [("alexnet", 2.46), ("vgg11_bn", 6.16)])
def test_a_perceptual_distance_is_that_of_the_maps_before_activations_in_place(name: str, distance: float) -> None:
    # 1.77 and 5.36 where the next layer had written into them.
    torch.manual_seed(0)
    architecture = Architecture(model=TorchvisionConfig(name=name), classes=3, channels=3, image_size=64)
    network = architecture.build().eval()
    shown = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = [output for output in stage_outputs(network, network.normalize(shown)) if output.ndim == 4]
    assert sum(_distance_of_halves(stage).mean().item() for stage in maps) == pytest.approx(distance, abs=0.005)


@pytest.mark.parametrize(("model", "size"), LARGE.values(), ids=LARGE)
def test_a_large_network_passes_the_trial_of_its_training(model: ModelConfig, size: int) -> None:
    check(model, size)
    check(model, size, DpSgdConfig())


@pytest.mark.usefixtures("tiny_bodies")
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", ["vgg16_bn", "torchvision", "timm.convnext_atto"])
def test_dp_sgd_has_the_gradient_of_each_image(name: str, channels_last: bool) -> None:
    """Opacus alone fails on the first two and has others, by 100 %, on any network whose channels lie last."""
    config = DpSgdConfig()
    architecture = Architecture(model=member(name)[0], classes=CLASSES, channels=3, image_size=SIZE, defenses=(config,))
    network = architecture.build().double().train()
    shown = images().double()
    if channels_last:
        network.to(memory_format=torch.channels_last)
        shown = shown.contiguous(memory_format=torch.channels_last)
    expected: list[dict[str, Any]] = []
    for image in shown:
        network.zero_grad()
        network.classify(image[None]).square().sum().backward()
        expected.append({name: weight.grad for name, weight in network.named_parameters()})
    facts = TrainingFacts(images=IMAGES, image_shape=(3, SIZE, SIZE), channel_mean=torch.zeros(3), generator=generator)
    defense = DEFENSES.build(config, facts=facts)
    network.zero_grad()
    defense.start(network)
    network.classify(shown).square().sum(1).mean().backward()
    for weight_name, weight in network.named_parameters():
        sampled: Any = weight  # Opacus puts `grad_sample` on it
        alone = torch.stack([gradients[weight_name] for gradients in expected])
        torch.testing.assert_close(sampled.grad_sample, alone, rtol=1e-4, atol=1e-6)
    defense.finish()


@pytest.mark.usefixtures("tiny_bodies")
def test_gradients_of_dp_sgd_lie_as_their_weights_do(tmp_path: Path) -> None:
    """Fused optimisers, those of GPUs, refuse others."""
    network = step(tmp_path, (DpSgdConfig(),), "small_cnn", ("fp32", True))
    strides = [(weight.grad.stride(), weight.stride()) for weight in network.parameters() if weight.grad is not None]
    assert len(strides) > 4 and all(gradient == weight for gradient, weight in strides)


def test_group_norm_keeps_the_activation_inside_a_norm_of_timm() -> None:
    with torch.device("meta"):
        plain, private = (
            Architecture(
                model=TimmConfig(name="efficientnet_b0"), classes=3, channels=3, image_size=32, defenses=defenses
            ).build()
            for defenses in ((), (DpSgdConfig(),))
        )
    activations = [sum(isinstance(layer, nn.SiLU) for layer in network.modules()) for network in (plain, private)]
    assert activations[0] == activations[1] > 16


@pytest.mark.parametrize(
    ("model", "size", "defenses", "message"),
    [
        (MaxvitTConfig(), 224, (DpSgdConfig(),), "dp_sgd cannot take maxvit_t apart by images: .*has buffers.*resnet"),
        (
            TorchvisionConfig(name="swin_t"),
            32,
            (DpSgdConfig(),),
            "dp_sgd cannot take swin_t apart by images: .*buffers",
        ),
        (InceptionV3Config(), 128, (), "auxiliary head that needs 299 pixels or more, got 128: set input_size to 299"),
        (
            TorchvisionConfig(name="alexnet"),
            32,
            (),
            "alexnet cannot be trained on images of 32 pixels: .*Raise image_size",
        ),
    ],
)
def test_a_network_that_cannot_be_trained_is_refused_before_it_is(
    model: ModelConfig, size: int, defenses: tuple[DefenseConfig, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check(model, size, *defenses)
