"""MID against numbers recorded from its authors' code, and by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.support.golden_networks import IDENTITIES
from tests.support.training import facts_of_one_image
from workloads.core.randomness import generator
from workloads.defenses.base import Batch
from workloads.defenses.mid import Bottleneck, Mid, MidConfig, information
from workloads.training.step import cross_entropy


class Headed(nn.Module):
    """A network of which only the head is looked at."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head


def test_the_bottleneck_is_the_authors(case: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    head = Bottleneck(12, 6, noise_in_evaluation=False).double()
    names = {"statistics": head.statistics, "head": head.output}
    for name, layer in names.items():
        layer.load_state_dict({part: case[f"{name}_{part}"] for part in ("weight", "bias")})
    defense = Mid(MidConfig(weight=0.01), facts=facts_of_one_image())
    network: Any = Headed(head)
    defense.start(network)
    defense.begin_epoch(0)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "randn", lambda shape, *, generator, device: case["noise"].view(shape))
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
