"""BiDO against numbers recorded from its authors' code, and by hand."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.support.golden_networks import IDENTITIES, golden
from tests.support.training import facts_of_one_image
from workloads.core.randomness import generator
from workloads.defenses.base import Batch
from workloads.defenses.bido import Bido, BidoConfig, coco, gaussian_kernel, hsic, hsic_as_published, kernel_of_labels
from workloads.training.step import cross_entropy

LAYERS = ("hidden_0", "hidden_1", "hidden_2")
KERNELS: dict[str, Literal["linear", "gaussian", "imq"]] = {
    "label_linear": "linear",
    "label_gaussian": "gaussian",
    "label_IMQ": "imq",
}
DISTANCES = {"hsic": (hsic, 1e-6), "coco": (coco, 1e-10)}


def other_kernel(case: dict[str, Tensor], other: str) -> Tensor:
    if other == "data":
        return gaussian_kernel(case["images"], 5.0)
    labels = F.one_hot(case["labels"], IDENTITIES).double()
    return kernel_of_labels(labels, BidoConfig(label_kernel=KERNELS[other]))


@pytest.mark.parametrize("other", ["data", *KERNELS])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("measure", DISTANCES)
def test_a_dependence_is_the_authors(case: dict[str, Tensor], measure: str, layer: str, other: str) -> None:
    distance, tolerance = DISTANCES[measure]
    value = distance(gaussian_kernel(case[layer], 5.0), other_kernel(case, other))
    assert value.item() == pytest.approx(case[f"{measure}.{layer}.{other}"].item(), abs=tolerance)


@pytest.mark.parametrize("other", ["data", "label_linear"])
@pytest.mark.parametrize("layer", LAYERS)
def test_the_gradient_of_hsic_is_the_authors(case: dict[str, Tensor], layer: str, other: str) -> None:
    hidden = case[layer].clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(hsic(gaussian_kernel(hidden, 5.0), other_kernel(case, other)), hidden)
    torch.testing.assert_close(gradient, case[f"hsic.{layer}.{other}.gradient"], rtol=0, atol=1e-6)


class Layers(nn.Module):
    """Stages that put out what they are given."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Identity() for _ in LAYERS)

    def stages(self) -> list[tuple[str, nn.Module]]:
        return list(zip(LAYERS, self.layers, strict=True))


# Weights, and ten times what the authors' code drifts in single precision, in which the kernels of layers are computed.
PENALISED: dict[str, tuple[dict[str, Any], float]] = {
    "hsic": ({}, 0.046),
    "hsic_as_published": ({"fidelity": "official"}, 0.046),
    "coco": ({"measure": "coco", "image_weight": 1.0, "label_weight": 50.0}, 6.4e-6),
}


@pytest.mark.parametrize("name", PENALISED)
def test_the_penalised_loss_is_the_authors(name: str) -> None:
    recorded, (settings, tolerance) = golden("bido"), PENALISED[name]
    targets, weights = F.one_hot(recorded["labels"], IDENTITIES).float(), torch.full((64,), 1 / 64)
    batch = Batch(recorded["images"], torch.arange(64), targets, weights)
    network: Any = Layers()
    defense = Bido(BidoConfig(**settings), facts=facts_of_one_image())
    defense.start(network)
    loss = cross_entropy(recorded["logits"], batch)
    assert loss.item() == pytest.approx(recorded["bido_loss.cross_entropy"].item(), abs=1.1e-6)
    for _ in range(2):  # a second batch is charged for its own layers alone
        for layer, stage in network.stages():
            stage(recorded[layer])
        expected = recorded[f"bido_loss.{name.partition('_')[0]}"].item()
        assert (loss + defense.penalty(batch)).item() == pytest.approx(expected, abs=tolerance)


def test_what_the_network_does_in_evaluation_is_not_penalised() -> None:
    network: Any = Layers()
    defense = Bido(BidoConfig(), facts=facts_of_one_image())
    defense.start(network)
    rows = torch.rand(4, 5, generator=generator("test", "rows"))
    network.eval()
    for _, stage in network.stages():
        stage(rows)
    batch = Batch(rows, torch.arange(4), F.one_hot(torch.arange(4) % 2).float(), torch.full((4,), 1 / 4))
    assert defense.penalty(batch).item() == 0


def test_single_precision_keeps_the_gradient_where_the_published_arithmetic_loses_it(
    case: dict[str, Tensor],
) -> None:
    expected = case["hsic.hidden_1.data.gradient"]
    errors = []
    for distance in (hsic, hsic_as_published):
        hidden = case["hidden_1"].float().requires_grad_(True)
        value = distance(gaussian_kernel(hidden, 5.0), gaussian_kernel(case["images"].float(), 5.0))
        (gradient,) = torch.autograd.grad(value, hidden)
        errors.append(((gradient - expected).norm() / expected.norm()).item())
    assert errors[0] < 0.01 < 1 < errors[1]


def test_the_toy_of_six_rows_has_the_values_worked_out_for_it() -> None:
    rows = torch.arange(6.0, dtype=torch.float64)[:, None]
    images = (0.5 * rows + 0.3 * torch.arange(5.0, dtype=torch.float64)).sin()
    hidden = (0.2 * rows * torch.arange(4.0, dtype=torch.float64)).cos()
    labels = F.one_hot(torch.tensor([0, 1, 2, 0, 1, 2])).double()
    image, layer = (gaussian_kernel(features, 5.0) for features in (images, hidden))
    linear = kernel_of_labels(labels, BidoConfig(label_kernel="linear"))
    gaussian = kernel_of_labels(labels, BidoConfig(label_kernel="gaussian"))
    assert hsic(layer, image).item() == pytest.approx(1.888944, abs=1e-6)
    assert hsic(layer, linear).item() == pytest.approx(0.330629, abs=1e-6)
    assert hsic(layer, gaussian).item() == pytest.approx(0.329892, abs=1e-6)
    assert coco(layer, image).item() == pytest.approx(0.0060600, abs=1e-7)
    assert coco(layer, linear).item() == pytest.approx(0.0333093, abs=1e-7)
