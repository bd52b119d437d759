"""Networks whose features metrics compare: their published weights fit, and they compute what the published ones do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from workloads.core.errors import ConfigError
from workloads.metrics.delta_face import DeltaFaceConfig
from workloads.metrics.fid import FidConfig
from workloads.models.base import Classifier, ModelConfig
from workloads.models.facenet160 import Facenet160Config
from workloads.models.inception_2015 import Inception2015Config
from workloads.models.small_cnn import SmallCnnConfig
from workloads.models.timm import TimmConfig
from workloads.training.classifiers import Architecture


def drawn_weights(shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Weights in the order of their sorted names, from a fixed seed; so a name that differs changes everything."""
    draw = torch.Generator().manual_seed(1)
    weights = {}
    for name in sorted(shapes):
        noise = torch.randn(shapes[name], generator=draw)
        if noise.ndim > 1:
            weights[name] = noise * (2 / noise[0].numel()) ** 0.5
        else:
            is_scale = name.endswith(("running_var", "weight"))
            weights[name] = (1 + 0.2 * noise).clamp(min=0.2) if is_scale else 0.1 * noise
    return weights


def shown(size: int) -> Tensor:
    coarse = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(2))
    return F.interpolate(coarse, size, mode="bilinear").mul(255).round()


def started(config: type[ModelConfig], file: Path, *, prefix: str = "", head: str) -> Classifier:
    """A network that began with a file of drawn weights under the published names, the published head among them."""
    empty = Architecture(model=config.model_validate({}), classes=2, channels=3, image_size=32).build()
    published = {name.removeprefix(prefix): value for name, value in empty.state_dict().items()}
    kept = [name for name in published if not name.endswith("num_batches_tracked")]
    weights = drawn_weights(
        {name: published[name].shape for name in kept if not name.startswith(("head.", "mean", "std"))}
    )
    save_file({**weights, f"{head}.weight": torch.zeros(10, 8), f"{head}.bias": torch.zeros(10)}, file)
    settings = config.model_validate({"weights": str(file)})
    network = Architecture(model=settings, classes=2, channels=3, image_size=32).build().eval()
    network.start_from(settings)
    return network


@torch.no_grad()
def test_facenet160_computes_what_facenet_pytorch_does(tmp_path: Path) -> None:
    network = started(Facenet160Config, tmp_path / "weights.safetensors", head="logits")
    embedding = F.normalize(network.features(shown(160) / 255 * 2 - 1))
    # InceptionResnetV1 of facenet-pytorch 2.6 in float64, with the same weights and images.
    expected = [
        [-0.024813465280, -0.048723718649, 0.039928208739, -0.002443099605],
        [-0.021609913643, -0.037829785263, 0.037085787804, 0.000211550099],
    ]
    torch.testing.assert_close(embedding[:, :4], torch.tensor(expected), rtol=0, atol=1e-5)


@torch.no_grad()
def test_inception_2015_computes_what_torch_fidelity_does(tmp_path: Path) -> None:
    network = started(Inception2015Config, tmp_path / "weights.safetensors", prefix="body.", head="fc")
    features = network.features((shown(299) - 128) / 128)
    # FeatureExtractorInceptionV3 of torch-fidelity 0.4 in float64, with the same weights and images.
    expected = [
        [0.005143770482, 0.397537946701, 0.002927118912, 3.010596275330],
        [0.009220507927, 0.270397365093, 0.000282304885, 2.808912515640],
    ]
    torch.testing.assert_close(features[:, :4], torch.tensor(expected), rtol=1e-3, atol=1e-4)


def test_facenet160_has_the_published_number_of_parameters_without_a_head() -> None:
    with torch.device("meta"):
        network = Architecture(model=Facenet160Config(), classes=2, channels=3, image_size=160).build()
    body = [parameter for name, parameter in network.named_parameters() if not name.startswith("head.")]
    assert sum(parameter.numel() for parameter in body) == 23_482_624


def test_facenet160_carries_the_published_names() -> None:
    with torch.device("meta"):
        names = set(Architecture(model=Facenet160Config(), classes=2, channels=3, image_size=160).build().state_dict())
    assert {
        "conv2d_1a.conv.weight",
        "conv2d_4b.bn.running_var",
        "repeat_1.4.branch2.2.conv.weight",
        "repeat_1.0.conv2d.bias",
        "mixed_6a.branch1.2.bn.weight",
        "repeat_2.9.branch1.1.conv.weight",
        "mixed_7a.branch2.2.conv.weight",
        "repeat_3.4.branch1.2.bn.bias",
        "block8.conv2d.weight",
        "last_linear.weight",
        "last_bn.running_mean",
    } <= names


# Size of the input


def network_of(input_size: int | None) -> Classifier:
    model = SmallCnnConfig(width=2, stages=2, input_size=input_size)
    return Architecture(model=model, classes=2, channels=3, image_size=32).build().eval()


def test_a_network_of_another_size_reads_images_resized_with_antialiasing() -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    expected = F.interpolate(images, (12, 12), mode="bilinear", antialias=True)
    torch.testing.assert_close(network_of(12).normalize(images), (expected - 0.5) / 0.5)


def test_a_network_without_a_size_of_its_own_reads_images_as_they_are() -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(network_of(None).normalize(images), (images - 0.5) / 0.5)


# Names and settings


@pytest.fixture
def weights(tmp_path: Path) -> str:
    file = tmp_path / "weights.safetensors"
    save_file({"any": torch.zeros(1)}, file)
    return str(file)


def test_the_extractor_is_part_of_a_number_s_name(weights: str) -> None:
    assert FidConfig().label == "fid_evaluation"
    assert FidConfig(extractor=Inception2015Config(weights=weights)).label == "fid_inception_2015"
    assert FidConfig(extractor=TimmConfig(name="resnet26", weights=weights)).label == "fid_resnet26"


def test_an_extractor_without_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="inception_2015 without weights measures nothing: set weights to imagenet or"):
        FidConfig(extractor=Inception2015Config())


def test_a_face_network_without_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="facenet160 without weights measures nothing"):
        DeltaFaceConfig(extractor=Facenet160Config())


@pytest.mark.parametrize("config", [Inception2015Config, Facenet160Config])
def test_an_extractor_without_imagenet_weights_says_so(config: type[ModelConfig]) -> None:
    settings = config.model_validate({"weights": "imagenet"})
    with torch.device("meta"):
        network = Architecture(model=settings, classes=2, channels=3, image_size=32).build()
    with pytest.raises(ConfigError, match="has no imagenet weights: set weights to none or a file"):
        network.start_from(settings)
