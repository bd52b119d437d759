"""Classifiers that somebody else trained: their answers stay theirs, in the order of the identities here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from workloads.core.errors import ConfigError, DataError
from workloads.models.base import Classifier, ModelConfig
from workloads.models.small_cnn import SmallCnnConfig
from workloads.models.torchvision import TorchvisionConfig
from workloads.training.checkpoint_files import CheckpointConfig, CheckpointFile, read_classifier
from workloads.training.classifiers import Architecture

NAMES = ("ann", "bob", "cy")
SMALL = SmallCnnConfig(width=2, stages=2)
SHUFFLENET = TorchvisionConfig(name="shufflenet_v2_x0_5")


def architecture(model: ModelConfig = SMALL) -> Architecture:
    return Architecture(model=model, classes=3, channels=3, image_size=32)


def read(file: Path, model: ModelConfig = SMALL, **settings: Any) -> Classifier:
    source = CheckpointConfig(checkpoint=CheckpointFile.at(str(file)), **settings)
    return read_classifier(source, architecture(model), NAMES).eval()


def saved(file: Path, weights: dict[str, Tensor]) -> Path:
    torch.save(weights, file)
    return file


def trained(model: ModelConfig = SMALL) -> Classifier:
    """A network with weights of its own, in no way those it begins with."""
    network = architecture(model).build(seed=7)
    network.draw_weights(torch.Generator().manual_seed(7))
    return network.eval()


def images() -> Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def published() -> nn.Module:
    """A network as torchvision builds it, for three classes."""
    torch.manual_seed(3)
    return torchvision.models.shufflenet_v2_x0_5(num_classes=3).eval()


def test_a_classifier_of_this_project_answers_as_it_did(tmp_path: Path) -> None:
    model = trained()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    assert torch.equal(read(tmp_path / "model.safetensors")(images()), model(images()))


def test_a_classifier_of_torchvision_answers_as_it_did(tmp_path: Path) -> None:
    network = published()
    model = read(saved(tmp_path / "w.pth", network.state_dict()), SHUFFLENET, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.3))
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.2, 0.3])
    expected = network((images() - mean[:, None, None]) / std[:, None, None])
    assert torch.allclose(model(images()), expected, atol=1e-5)


def test_a_last_layer_called_head_is_read() -> None:
    with torch.device("meta"):
        weights = torchvision.models.swin_t(num_classes=3).state_dict()
        model = architecture(TorchvisionConfig(name="swin_t")).build()
    assert {"head.weight", "head.bias"} < weights.keys()  # as torchvision calls it
    assert model.named_as_here(weights).keys() == model.state_dict().keys() - {"mean", "std"}


@pytest.mark.parametrize("name", ["swin_t", "mobilenet_v3_small", "convnext_tiny", "vit_b_16"])
def test_weights_are_published_under_the_names_of_torchvision(name: str) -> None:
    with torch.device("meta"):
        network = torchvision.models.get_model(name, num_classes=3, **{"image_size": 32} if name == "vit_b_16" else {})
        model = architecture(TorchvisionConfig(name=name)).build()
    weights = {key: weight for key, weight in model.state_dict().items() if key not in ("mean", "std")}
    assert model.named_as_published(weights).keys() == network.state_dict().keys()


def test_torchvision_reads_what_is_published(tmp_path: Path) -> None:
    model, network = trained(SHUFFLENET), published()
    weights = {key: weight for key, weight in model.state_dict().items() if key not in ("mean", "std")}
    network.load_state_dict(model.named_as_published(weights), strict=True)
    assert torch.allclose(network((images() - model.mean) / model.std), model(images()), atol=1e-5)


def test_outputs_are_put_into_the_order_of_the_identities(tmp_path: Path) -> None:
    model = trained()
    file = saved(tmp_path / "w.pth", model.state_dict())
    logits = read(file, classes=("cy", "ann", "bob"))(images())
    assert torch.equal(logits, model(images())[:, [1, 2, 0]])  # ann, bob and cy are outputs 1, 2 and 0 of the file


def test_a_file_without_normalisation_takes_that_of_the_model(tmp_path: Path) -> None:
    weights = {name: weight for name, weight in trained().state_dict().items() if name not in ("mean", "std")}
    model = read(saved(tmp_path / "w.pth", weights), SMALL.model_copy(update={"input_mean": 0.25, "input_std": 2.0}))
    assert (model.mean.unique().item(), model.std.unique().item()) == (0.25, 2.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ("ann", "bob", "eve")}, r"data\.private has 'cy', which the other lacks"),
        ({"classes": ("ann", "bob")}, r"classes names 2, but .*w\.pth tells 3 apart"),
        ({"mean": (0.5,)}, "mean has 1 numbers, but images have 3 channels: give one each"),
    ],
)
def test_what_does_not_describe_the_file_is_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    file = saved(tmp_path / "w.pth", trained().state_dict())
    with pytest.raises(ConfigError, match=message):
        read(file, **settings)


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    network = torchvision.models.shufflenet_v2_x0_5(num_classes=10)
    with pytest.raises(ConfigError, match=r"w\.pth tells 10 classes apart, but data\.private has 3 identities"):
        read(saved(tmp_path / "w.pth", network.state_dict()), SHUFFLENET)


def test_another_network_is_refused(tmp_path: Path) -> None:
    weights = torchvision.models.squeezenet1_1(num_classes=3).state_dict()
    with pytest.raises(ConfigError, match=r"do not fit TorchvisionModel: \d+ missing"):
        read(saved(tmp_path / "w.pth", weights), SHUFFLENET)


def test_a_file_that_changed_since_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path / "w.pth", trained().state_dict())
    source = CheckpointConfig(checkpoint=CheckpointFile(file=str(file), digest="0" * 64))
    with pytest.raises(DataError, match=r"w\.pth changed since this sweep was planned: start it again"):
        read_classifier(source, architecture(), NAMES)
