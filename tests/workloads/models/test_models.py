"""Architectures by their parameter counts, their refusals, and weights that come from files."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from workloads.core.config import content
from workloads.core.errors import ConfigError, DataError
from workloads.core.weights import read_weights
from workloads.models.base import MODELS, Classifier, LibraryClassifier, ModelConfig, check_trains
from workloads.models.inception_v3 import InceptionV3Config
from workloads.models.resnet import ResnetConfig
from workloads.models.small_cnn import SmallCnnConfig
from workloads.models.timm import TimmConfig
from workloads.models.torchvision import TorchvisionConfig
from workloads.training.classifiers import Architecture

# Of the published architectures with 1000 classes, as torchvision, timm and the field's literature count them.
COUNTS = [
    ("vgg16_bn", {}, 64, 16_776_232),
    ("ir152", {}, 64, 62_599_848),
    ("facenet64", {}, 64, 35_437_224),
    ("facenet112", {}, 112, 44_087_976),
    ("resnet", {"depth": 18}, 224, 11_689_512),
    ("resnet", {"depth": 34}, 224, 21_797_672),
    ("resnet", {"depth": 50}, 224, 25_557_032),
    ("resnet", {"depth": 101}, 224, 44_549_160),
    ("resnet", {"depth": 152}, 224, 60_192_808),
    ("densenet", {"depth": 121}, 224, 7_978_856),
    ("densenet", {"depth": 161}, 224, 28_681_000),
    ("densenet", {"depth": 169}, 224, 14_149_480),
    ("densenet", {"depth": 201}, 224, 20_013_928),
    ("resnest", {"depth": 50}, 224, 27_483_240),
    ("resnest", {"depth": 101}, 224, 48_275_016),
    ("vit_b_16", {}, 224, 86_567_656),
    ("inception_v3", {}, 299, 27_161_264),
]


def weightless(kind: str, settings: dict[str, Any], size: int, classes: int = 1000) -> Classifier:
    with torch.device("meta"):
        config = MODELS.config_of(kind).model_validate(settings)
        return MODELS.build(config, classes=classes, channels=3, image_size=size)


@pytest.mark.parametrize(("kind", "settings", "size", "count"), COUNTS)
def test_an_architecture_has_the_published_number_of_parameters(
    kind: str, settings: dict[str, Any], size: int, count: int
) -> None:
    assert sum(parameter.numel() for parameter in weightless(kind, settings, size).parameters()) == count


def test_maxvit_differs_from_torchvisions_by_the_bias_of_its_head_alone() -> None:
    # torchvision counts 30,919,624 with a head that has no bias.
    assert sum(parameter.numel() for parameter in weightless("maxvit_t", {}, 224).parameters()) == 30_919_624 + 1000


@pytest.mark.parametrize("kind", ["resnet", "resnest", "ir152", "maxvit_t", "vit_b_16"])
def test_removing_a_shortcut_changes_what_a_residual_network_says(kind: str) -> None:
    size = {"resnet": 32, "vit_b_16": 32, "maxvit_t": 224}.get(kind, 64)
    model_config = MODELS.config_of(kind).model_validate({})
    built = Architecture(model=model_config, classes=5, channels=3, image_size=size).build(seed=1).eval()
    images = torch.rand(1, 3, size, size)
    outputs = []
    for factors in ((1.0, 1.0, 1.0, 1.0), (1.0, 1.0, 1.0, 0.5), (1.0, 1.0, 1.0, 0.0)):
        model = copy.deepcopy(built)
        model.scale_shortcuts(factors)
        with torch.no_grad():
            outputs.append(model(images))
    assert not torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[1], outputs[2])


@pytest.mark.parametrize(
    ("kind", "settings", "size", "message"),
    [
        ("vit_b_16", {}, 40, "vit_b_16 cuts images into patches of 16 pixels, got 40: set a multiple of 16."),
        ("maxvit_t", {}, 96, "maxvit_t cuts images into 7 windows at every stage, got 96: set image_size to 224."),
        ("inception_v3", {}, 64, "inception_v3 needs images of 75 pixels or more, got 64: raise image_size."),
        ("ir152", {}, 32, "ir152 takes images of 64 pixels, got 32: set image_size."),
        ("torchvision", {"name": "resnet19"}, 64, "name: torchvision has no 'resnet19'. Near it: resnet"),
        ("timm", {"name": "resnett18"}, 64, "name: timm has no 'resnett18'. Near it: resnet18"),
    ],
)
def test_what_a_model_cannot_take_is_refused(kind: str, settings: dict[str, Any], size: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        weightless(kind, settings, size)
    assert str(caught.value).startswith(message)


def test_inception_trains_its_auxiliary_head_beside_the_main_one() -> None:
    model = Architecture(model=InceptionV3Config(), classes=4, channels=3, image_size=299).build(seed=1)
    images = torch.rand(2, 3, 299, 299)
    assert [logits.shape for logits in model.train().training_logits(images)] == [(2, 4), (2, 4)]
    assert [logits.shape for logits in model.eval().training_logits(images)] == [(2, 4)]


@pytest.mark.parametrize("kind", ["small_cnn", "vgg16_bn", "ir152"])
def test_images_cannot_be_divided_by_zero(kind: str) -> None:
    with pytest.raises(ValidationError, match="input_std\n  Input should be greater than 0"):
        MODELS.config_of(kind).model_validate({"input_std": 0.0})


# Weights


def built(config: ModelConfig) -> Classifier:
    return Architecture(model=config, classes=3, channels=3, image_size=32).build(seed=4)


def small(**settings: Any) -> tuple[ModelConfig, Classifier]:
    config = SmallCnnConfig(width=2, stages=2, **settings)
    return config, built(config)


def saved(file: Path, weights: dict[str, Any]) -> Path:
    if file.suffix == ".safetensors":
        save_file(weights, file)
    else:
        torch.save(weights, file)
    return file


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: weights,
        lambda weights: {"model_state_dict": weights, "epoch": torch.tensor(3)},
        lambda weights: {f"module.{name}": value for name, value in weights.items()},
        lambda weights: {"state_dict": {f"_orig_mod.module.{name}": value for name, value in weights.items()}},
    ],
    ids=["bare", "wrapped", "parallel", "compiled"],
)
def test_published_checkpoints_load_however_they_are_wrapped(
    tmp_path: Path, wrap: Callable[[dict[str, Tensor]], dict[str, Any]]
) -> None:
    _, source = small()
    file = saved(tmp_path / "weights.pth", wrap(source.state_dict()))
    config, model = small(weights=str(file))
    before = {name: weight.clone() for name, weight in model.head.state_dict().items()}
    model.start_from(config)
    for name, weight in source.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(model.state_dict()[name], weight)
    for name, weight in model.head.state_dict().items():
        assert torch.equal(weight, before[name]), "the head begins with fresh weights"


@pytest.mark.parametrize(
    ("config", "network"),
    [
        (TorchvisionConfig(name="shufflenet_v2_x0_5"), lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=7)),
        (TimmConfig(name="mobilenetv3_small_050"), lambda: timm.create_model("mobilenetv3_small_050", num_classes=7)),
    ],
    ids=["torchvision", "timm"],
)
def test_the_very_file_a_library_writes_is_read_but_for_its_last_layer(
    tmp_path: Path, config: ModelConfig, network: Callable[[], nn.Module]
) -> None:
    torch.manual_seed(0)
    published = network().state_dict()
    config = config.model_copy(update={"weights": str(saved(tmp_path / "w.pth", published))})
    model = built(config)
    assert isinstance(model, LibraryClassifier)
    model.start_from(config)
    body = model.body.state_dict()
    assert all(torch.equal(body[name], published[name]) for name in body)
    assert {name.partition(".")[0] for name in published.keys() - body.keys()} <= {"fc", "classifier"}


def test_a_file_with_code_in_it_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    file = saved(tmp_path / "evil.pth", {"state_dict": Evil()})
    with pytest.raises(DataError, match=r"evil\.pth holds no plain weights and is not opened further"):
        read_weights(file)
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_network_are_refused_with_what_does_not_fit(tmp_path: Path) -> None:
    wider = built(SmallCnnConfig(width=4, stages=2))
    file = saved(tmp_path / "other.safetensors", wider.state_dict())
    config, model = small(weights=str(file))
    with pytest.raises(ConfigError, match=r"do not fit SmallCnn: \d+ of another shape \(body\.0\.0\.weight\)"):
        model.start_from(config)


def test_a_key_follows_what_a_file_holds_and_not_where_it_lies(tmp_path: Path) -> None:
    _, source = small()
    first, second = (saved(tmp_path / f"{name}.safetensors", source.state_dict()) for name in ("a", "b"))
    configs = [SmallCnnConfig(weights=str(file)) for file in (first, second)]
    assert content(configs[0]) == content(configs[1])
    changed = {name: weight + 1 for name, weight in source.state_dict().items()}
    assert content(SmallCnnConfig(weights=str(saved(second, changed)))) != content(configs[0])


def test_a_missing_file_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match=r"no weights at nowhere\.pth: give none, imagenet or a"):
        SmallCnnConfig(weights="nowhere.pth")


def test_imagenet_weights_that_are_not_here_say_where_to_put_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    config = ResnetConfig(weights="imagenet")
    model = built(config)
    with pytest.raises(DataError, match=r"put https://.*resnet18.*\.pth at .*resnet18"):
        model.start_from(config)


def test_a_model_without_imagenet_weights_says_so() -> None:
    config, model = small(weights="imagenet")
    with pytest.raises(ConfigError, match="small_cnn has no imagenet weights"):
        model.start_from(config)


def test_regnet_is_built_without_memory_for_weights_too() -> None:
    with torch.device("meta"):
        model = MODELS.build(TorchvisionConfig(name="regnet_y_400mf"), classes=3, channels=3, image_size=32)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    check_trains(model)
