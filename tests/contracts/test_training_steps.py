"""Every defense trains, and every stage is seen as it was put out, on networks of every family and library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from tests.support.components import config_for
from workloads.context import DataInput, JobContext
from workloads.core.errors import ConfigError
from workloads.core.randomness import generator
from workloads.datasets.base import ImageSet
from workloads.datasets.digits import DigitsConfig
from workloads.defenses.base import DEFENSES, Batch, DefenseConfig, TrainingFacts
from workloads.defenses.bido import Bido
from workloads.defenses.dp_sgd import DpSgdConfig
from workloads.jobs import train_classifier
from workloads.jobs.train_classifier import TrainClassifier, TrainClassifierConfig
from workloads.metrics.perceptual_distance import _distance_of_halves
from workloads.models.base import Classifier, ModelConfig, check_trains, stage_outputs
from workloads.models.inception_2015 import Inception2015Config
from workloads.models.inception_v3 import InceptionV3Config
from workloads.models.maxvit_t import MaxvitTConfig
from workloads.models.resnest import ResnestConfig
from workloads.models.resnet import ResnetConfig
from workloads.models.small_cnn import SmallCnnConfig
from workloads.models.timm import TimmConfig
from workloads.models.torchvision import TorchvisionConfig
from workloads.models.vgg16_bn import Vgg16BnConfig
from workloads.recipes.optimization import TrainingConfig
from workloads.training.classifiers import Architecture, save_classifier

CLASSES, IMAGES, SIZE = 3, 4, 32
SMALL: dict[str, ModelConfig] = {
    "small_cnn": SmallCnnConfig(width=4, stages=2),
    "vgg16_bn": Vgg16BnConfig(),
    "resnet18": ResnetConfig(),
    "torchvision.densenet121": TorchvisionConfig(name="densenet121"),
    "torchvision.googlenet": TorchvisionConfig(name="googlenet"),
    "torchvision.mobilenet_v3_small": TorchvisionConfig(name="mobilenet_v3_small"),
    "torchvision.shufflenet_v2_x0_5": TorchvisionConfig(name="shufflenet_v2_x0_5"),
    "timm.resnet10t": TimmConfig(name="resnet10t"),
    "timm.mobilenetv3_small_050": TimmConfig(name="mobilenetv3_small_050"),
    "timm.convnext_atto": TimmConfig(name="convnext_atto"),
}
"""Networks that take a step in a fraction of a second: activations and sums in place, blocks with weights of their own,
a last layer wider than the last maps."""
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
Format = tuple[Literal["fp32", "bf16"], bool]
FORMATS: tuple[Format, ...] = (("fp32", False), ("fp32", True), ("bf16", False), ("bf16", True))
"""Precision, and whether channels lie last."""
format_id = "{0[0]}-{0[1]}".format


def images() -> Tensor:
    return torch.rand(IMAGES, 3, SIZE, SIZE, generator=generator("test", "steps"))


def step(
    folder: Path,
    defenses: tuple[DefenseConfig, ...],
    model: ModelConfig,
    form: Format,
    inputs: Mapping[str, Path] = MappingProxyType({}),
) -> Classifier:
    """A network after one step of training on noise; its loss was finite."""
    stored: list[Classifier] = []
    noise = ImageSet(images().mul(255).to(torch.uint8), torch.arange(IMAGES) % CLASSES, ("a", "b", "c"))
    context = JobContext(
        key="0" * 64,
        inputs=dict(inputs),
        output=folder,
        checkpoint_file=folder / "checkpoint.safetensors",
        load_images=lambda data: noise,
    )
    precision, channels_last = form
    config = TrainClassifierConfig(
        role="target",
        data=DataInput(dataset=DigitsConfig(), digest=""),
        split=None,
        model=model,
        training=TrainingConfig(epochs=1, batch_size=IMAGES, precision=precision, channels_last=channels_last),
        defenses=defenses,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_classifier, "save_classifier", lambda folder, model, architecture: stored.append(model))
        patch.setattr(JobContext, "checkpoint", lambda *state: None)
        TrainClassifier(config).run(context)
    return stored[0]


def copies_of_stages(model: Classifier) -> list[Tensor]:
    """What stages put out, copied at once; it grows whenever the model is run."""
    copies: list[Tensor] = []

    def copy(stage: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        copies.append(output.detach().clone())

    for _, stage in model.stages():
        stage.register_forward_hook(copy)
    return copies


class Watch:
    """Whether each stage output differs from a copy taken at once when BiDO computes its penalty."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.changed: list[bool] = []
        self._copies: list[Tensor] = []
        start, penalty = Bido.start, Bido.penalty

        def watched_start(defense: Bido, model: Classifier) -> None:
            self._copies = copies_of_stages(model)
            start(defense, model)

        def watched_penalty(defense: Bido, batch: Batch) -> Tensor:
            self.changed += [not torch.equal(*pair) for pair in zip(defense._outputs, self._copies, strict=True)]
            self._copies.clear()
            return penalty(defense, batch)

        patch.setattr(Bido, "start", watched_start)
        patch.setattr(Bido, "penalty", watched_penalty)


EVERY_FORMAT_ONCE = [(name, FORMATS[index % len(FORMATS)]) for index, name in enumerate(SMALL)]


def check(model: ModelConfig, size: int, *defenses: DefenseConfig) -> None:
    """Try a network in training mode without memory for its weights."""
    with torch.device("meta"):
        architecture = Architecture(model=model, classes=CLASSES, channels=3, image_size=size, defenses=defenses)
        network = architecture.build()
        for defense in defenses:
            defense.check_training(network)
        if not defenses:
            check_trains(network)


@pytest.mark.parametrize("form", FORMATS, ids=format_id)
@pytest.mark.parametrize("kind", DEFENSES.kinds())
def test_every_defense_takes_a_step_in_every_format(tmp_path: Path, kind: str, form: Format) -> None:
    model = ResnetConfig() if kind == "rolss" else SMALL["timm.resnet10t"]
    inputs = {}
    if kind == "tl_dmi":
        public = Architecture(model=model, classes=CLASSES, channels=3, image_size=SIZE)
        save_classifier(tmp_path, public.build(), public)
        inputs = {"public": tmp_path}
    network = step(tmp_path, (config_for(DEFENSES, kind),), model, form, inputs)
    assert all(weight.isfinite().all() for weight in network.parameters())


@pytest.mark.parametrize(("name", "form"), EVERY_FORMAT_ONCE)
@pytest.mark.parametrize("kind", ["bido", "dp_sgd"])
def test_networks_of_libraries_take_a_step_with_defenses_that_hook_them(
    tmp_path: Path, kind: str, name: str, form: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    network = step(tmp_path, (config_for(DEFENSES, kind),), SMALL[name], form)
    assert all(weight.isfinite().all() for weight in network.parameters())
    assert bool(watch.changed) == (kind == "bido") and not any(watch.changed)


@pytest.mark.parametrize("model", SMALL.values(), ids=SMALL)
def test_stage_outputs_are_those_that_stages_put_out(model: ModelConfig) -> None:
    network = Architecture(model=model, classes=CLASSES, channels=3, image_size=SIZE).build().eval()
    copies = copies_of_stages(network)
    with torch.no_grad():
        outputs = stage_outputs(network, network.normalize(images()))
    assert outputs and all(torch.equal(*pair) for pair in zip(outputs, copies, strict=True))


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


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", ["resnet18", "torchvision.shufflenet_v2_x0_5", "timm.convnext_atto"])
def test_dp_sgd_has_the_gradient_of_each_image(name: str, channels_last: bool) -> None:
    """Opacus alone fails on the first two and has others, by 100 %, on any network whose channels lie last."""
    config = DpSgdConfig()
    architecture = Architecture(model=SMALL[name], classes=CLASSES, channels=3, image_size=SIZE, defenses=(config,))
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
