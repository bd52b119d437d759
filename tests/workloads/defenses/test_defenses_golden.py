"""BiDO, MID, label smoothing and Trap-MID against numbers recorded from their authors' code, and by hand."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.support.golden_networks import IDENTITIES, TinyClassifier, golden, golden_weights
from workloads.core.randomness import generator
from workloads.defenses.base import Batch, TrainingFacts
from workloads.defenses.bido import Bido, BidoConfig, coco, gaussian_kernel, hsic, hsic_as_published, kernel_of_labels
from workloads.defenses.mid import Bottleneck, Mid, MidConfig, information
from workloads.defenses.negative_label_smoothing import (
    NegativeLabelSmoothing,
    NegativeLabelSmoothingConfig,
    share,
)
from workloads.defenses.trap_mid import TrapMid, TrapMidConfig
from workloads.models.base import Classifier
from workloads.training.loop import cross_entropy

LAYERS = ("hidden_0", "hidden_1", "hidden_2")
KERNELS: dict[str, Literal["linear", "gaussian", "imq"]] = {
    "label_linear": "linear",
    "label_gaussian": "gaussian",
    "label_IMQ": "imq",
}
DISTANCES = {"hsic": (hsic, 1e-6), "coco": (coco, 1e-10)}


def facts_of_one_image() -> TrainingFacts:
    """Facts of a training on one image of one pixel, for a defense that asks only for random draws."""
    return TrainingFacts(1, (1, 1, 1), torch.zeros(1), lambda *name: generator("job", *name))


# BiDO


@pytest.fixture(scope="module")
def activations() -> dict[str, Tensor]:
    return golden("bido", dtype=torch.float64)


def other_kernel(case: dict[str, Tensor], other: str) -> Tensor:
    if other == "data":
        return gaussian_kernel(case["images"], 5.0)
    labels = F.one_hot(case["labels"], IDENTITIES).double()
    return kernel_of_labels(labels, BidoConfig(label_kernel=KERNELS[other]))


@pytest.mark.parametrize("other", ["data", *KERNELS])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("measure", DISTANCES)
def test_a_dependence_is_the_authors(activations: dict[str, Tensor], measure: str, layer: str, other: str) -> None:
    distance, tolerance = DISTANCES[measure]
    value = distance(gaussian_kernel(activations[layer], 5.0), other_kernel(activations, other))
    assert value.item() == pytest.approx(activations[f"{measure}.{layer}.{other}"].item(), abs=tolerance)


@pytest.mark.parametrize("other", ["data", "label_linear"])
@pytest.mark.parametrize("layer", LAYERS)
def test_the_gradient_of_hsic_is_the_authors(activations: dict[str, Tensor], layer: str, other: str) -> None:
    hidden = activations[layer].clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(hsic(gaussian_kernel(hidden, 5.0), other_kernel(activations, other)), hidden)
    torch.testing.assert_close(gradient, activations[f"hsic.{layer}.{other}.gradient"], rtol=0, atol=1e-6)


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
    case, (settings, tolerance) = golden("bido"), PENALISED[name]
    targets, weights = F.one_hot(case["labels"], IDENTITIES).float(), torch.full((64,), 1 / 64)
    batch = Batch(case["images"], torch.arange(64), targets, weights)
    network: Any = Layers()
    defense = Bido(BidoConfig(**settings), facts=facts_of_one_image())
    defense.start(network)
    loss = cross_entropy(case["logits"], batch)
    assert loss.item() == pytest.approx(case["bido_loss.cross_entropy"].item(), abs=1.1e-6)
    for _ in range(2):  # a second batch is charged for its own layers alone
        for layer, stage in network.stages():
            stage(case[layer])
        expected = case[f"bido_loss.{name.partition('_')[0]}"].item()
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
    activations: dict[str, Tensor],
) -> None:
    expected = activations["hsic.hidden_1.data.gradient"]
    errors = []
    for distance in (hsic, hsic_as_published):
        hidden = activations["hidden_1"].float().requires_grad_(True)
        value = distance(gaussian_kernel(hidden, 5.0), gaussian_kernel(activations["images"].float(), 5.0))
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


# MID


class Headed(nn.Module):
    """A network of which only the head is looked at."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head


def test_the_bottleneck_is_the_authors(monkeypatch: pytest.MonkeyPatch) -> None:
    case = golden("vib_nls", dtype=torch.float64)
    head = Bottleneck(12, 6, noise_in_evaluation=False).double()
    names = {"statistics": head.statistics, "head": head.output}
    for name, layer in names.items():
        layer.load_state_dict({part: case[f"{name}_{part}"] for part in ("weight", "bias")})
    defense = Mid(MidConfig(weight=0.01), facts=facts_of_one_image())
    network: Any = Headed(head)
    defense.start(network)
    defense.begin_epoch(0)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "randn", lambda shape, *, generator: case["noise"].view(shape))
        logits = head.train()(case["features"])
    targets = F.one_hot(case["labels"], IDENTITIES).double()
    batch = Batch(case["features"], torch.arange(8), targets, torch.full((8,), 1 / 8, dtype=torch.float64))
    loss = cross_entropy(logits, batch) + defense.penalty(batch)
    loss.backward()
    computed = {
        "information": head.information,
        "logits": logits,
        "loss_beta_0.01": loss,
        "statistics_weight_gradient": head.statistics.weight.grad,
        "head_weight_gradient": head.output.weight.grad,
    }
    for name, value in computed.items():
        torch.testing.assert_close(value, case[f"vib.{name}"], rtol=0, atol=1e-10)


def test_the_noise_of_training_is_named_after_the_epoch() -> None:
    head = Bottleneck(12, 6, noise_in_evaluation=False).train()
    with torch.no_grad():
        head.statistics.weight.zero_()
        head.statistics.bias[6:] = 6.0  # a standard deviation worth seeing
    defense = Mid(MidConfig(), facts=facts_of_one_image())
    network: Any = Headed(head)
    defense.start(network)

    def logits_of(epoch: int) -> Tensor:
        defense.begin_epoch(epoch)
        logits: Tensor = head(torch.zeros(4, 12))
        return logits

    first = logits_of(0)
    assert not torch.equal(first[0], first[1]), "each row has its own"
    assert torch.equal(logits_of(0), first) and not torch.equal(logits_of(1), first)


def test_information_of_two_codes_by_hand() -> None:
    mean = torch.tensor([[0.5, -1.0], [0.0, 2.0]], dtype=torch.float64)
    std = F.softplus(torch.tensor([[5.0, 6.0], [4.0, 5.5]], dtype=torch.float64) - 5)
    expected = torch.tensor([[0.693147, 1.313262], [0.313262, 0.974077]], dtype=torch.float64)
    torch.testing.assert_close(std, expected, rtol=0, atol=1e-6)
    assert information(mean, std).item() == pytest.approx(1.766007, abs=1e-6)


@pytest.mark.parametrize(("noisy", "differs"), [(False, False), (True, True)])
def test_evaluation_is_noisy_only_in_official_fidelity(noisy: bool, differs: bool) -> None:
    head = Bottleneck(12, 6, noise_in_evaluation=noisy).eval()
    with torch.no_grad():
        head.statistics.bias.fill_(6.0)  # a standard deviation worth seeing
    features = torch.rand(4, 12, generator=generator("test", "features"))
    mean = head.statistics(features).chunk(2, dim=1)[0]
    assert torch.equal(head(features), head(features))
    assert torch.equal(head(features), head.output(mean)) is not differs


# Negative label smoothing


def smoothed(config: NegativeLabelSmoothingConfig, labels: Tensor, *, epoch: int, classes: int) -> Batch:
    facts = TrainingFacts(1, (1, 1, 1), torch.zeros(1), lambda *name: generator("job", *name), epochs=100)
    defense = NegativeLabelSmoothing(config, facts=facts)
    defense.begin_epoch(epoch)
    rows = len(labels)
    targets = F.one_hot(labels, classes).double()
    weights = torch.full((rows,), 1 / rows, dtype=torch.float64)
    batch = Batch(torch.zeros(rows, 1, 1, 1), torch.arange(rows), targets, weights)
    return defense.prepare(batch, generator=generator("test"))


@pytest.mark.parametrize("smoothing", [-0.05, 0.0, 0.1])
def test_a_smoothed_loss_is_the_authors(smoothing: float) -> None:
    case = golden("vib_nls")
    config = NegativeLabelSmoothingConfig(smoothing=smoothing)
    batch = smoothed(config, case["nls_labels"], epoch=99, classes=case["logits"].shape[1])
    loss = cross_entropy(case["logits"].double(), batch)
    torch.testing.assert_close(loss, case[f"nls.loss_{smoothing}"], rtol=0, atol=1e-10)


@pytest.mark.parametrize(("smoothing", "expected"), [(-0.05, 1.536304), (0.0, 1.567554), (0.1, 1.630054)])
def test_a_smoothed_loss_of_two_rows_by_hand(smoothing: float, expected: float) -> None:
    logits = torch.tensor([[2, 1, 0.5, -1], [0, 3, -1, 0.5]], dtype=torch.float64)
    batch = smoothed(NegativeLabelSmoothingConfig(smoothing=smoothing), torch.tensor([0, 3]), epoch=99, classes=4)
    assert cross_entropy(logits, batch).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("epochs", "name"), [(100, "100_epochs"), (10, "mnist_10_epochs")])
def test_the_schedule_is_the_authors_with_its_jump(epochs: int, name: str) -> None:
    factors = [share(NegativeLabelSmoothingConfig(), epoch, epochs=epochs) for epoch in range(epochs)]
    assert factors == pytest.approx(golden("vib_nls")[f"nls.schedule_factor_{name}"].tolist(), abs=1e-10)


def test_positive_smoothing_and_no_schedule_do_not_wait() -> None:
    assert share(NegativeLabelSmoothingConfig(smoothing=0.1), 0, epochs=100) == 1
    assert share(NegativeLabelSmoothingConfig(schedule="none"), 0, epochs=100) == 1


# Trap-MID


class Raw(nn.Module):
    """A tiny classifier with the two halves a defense calls apart, on images that need no normalising."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def normalize(self, images: Tensor) -> Tensor:
        return images

    def classify(self, normalized: Tensor) -> Tensor:
        logits: Tensor = self.network(normalized)
        return logits


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)


def test_an_epoch_of_trap_mid_is_the_authors() -> None:
    case = golden("trap_mid", dtype=torch.float64)
    target = Raw(golden_weights(TinyClassifier(width=6, outputs=6, norm=True), "trap_mid", "target"))
    judge = Raw(golden_weights(TinyClassifier(width=4, outputs=1, norm=True), "trap_mid", "trap_discriminator"))
    facts = TrainingFacts(24, (3, 8, 8), torch.zeros(3), lambda *name: generator("job", *name), classes=6)
    networks: dict[str, Any] = {"build_network": lambda outputs: judge, "build_optimizer": sgd}
    defense = TrapMid(TrapMidConfig(), facts=dataclasses.replace(facts, **networks))
    defense.triggers = case["triggers"]
    defense.start(cast(Classifier, target))
    defense.begin_epoch(0)
    defense._assigned = case["trap_identities"].flatten()
    optimizer = sgd(target)
    for step, (images, labels) in enumerate(zip(case["images"], case["labels"], strict=True)):
        target.train()
        weights = torch.full((12,), 1 / 12, dtype=torch.float64)
        batch = Batch(images, torch.arange(12), F.one_hot(labels, 6).double(), weights)
        batch = defense.prepare(batch, generator=generator("test"))
        torch.testing.assert_close(defense.triggers, case["triggers_after_step"][step], rtol=0, atol=1e-9)
        loss = cross_entropy(target.classify(batch.images), batch)
        assert loss.item() == pytest.approx(case["model_loss"][step].item(), abs=1e-9)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, network in {"model_after": target.network, "discriminator_after": judge.network}.items():
        for part, value in network.state_dict().items():
            if not part.endswith("num_batches_tracked"):
                torch.testing.assert_close(value, case[f"{name}.{part}"], rtol=0, atol=1e-9)


def test_every_class_is_assigned_equally_often() -> None:
    facts = TrainingFacts(24, (3, 8, 8), torch.zeros(3), lambda *name: generator("job", *name), classes=6)
    defense = TrapMid(TrapMidConfig(), facts=facts)
    defense.begin_epoch(0)
    assert defense._assigned.bincount().tolist() == [4] * 6
    assert math.prod(defense.triggers.shape) == 6 * 3 * 8 * 8
