"""VMI: its distributions against torch's distributions and explicit Jacobians, its objective by hand, its batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence
from torch.nn import functional as F

from tests.support.draws import drawn
from tests.support.golden_networks import IDENTITIES, LATENT_SIZE, golden_networks, white_box
from tests.support.interruptions import Interrupted, context_at
from workloads.attacks.vmi import Vmi, VmiConfig
from workloads.inversion.attack import Reconstructions
from workloads.inversion.optimizers import Momentum, Variables
from workloads.inversion.rows import Rows, select
from workloads.inversion.step import Step
from workloads.inversion.variational import Flow, Gaussian

CPU = torch.device("cpu")
ROWS = Rows(torch.tensor([4, 1]), torch.tensor([0, 2]), "key")
SIZE = 5
ORDERS = torch.tensor([[3, 0, 4, 1, 2], [1, 4, 2, 0, 3], [2, 3, 0, 1, 4]])


def anywhere(begun: Variables) -> Variables:
    """Variables of the same shapes, none of them 0."""
    return {name: 0.3 * drawn(*tensor.shape, purpose=name) for name, tensor in begun.items()}


# Distributions


def test_a_gaussians_divergence_is_that_of_torchs_distributions() -> None:
    distribution = anywhere(Gaussian(SIZE).begin(ROWS))
    _, divergence = Gaussian(SIZE).draw(distribution, drawn(2, 1, SIZE, purpose="noise"))
    standard = Normal(torch.zeros(SIZE, dtype=torch.float64), 1.0)
    expected = kl_divergence(Normal(distribution["mean"], distribution["log_std"].exp()), standard).sum(1)
    torch.testing.assert_close(divergence, expected)


def test_a_gaussians_divergence_by_hand() -> None:
    # (mean^2 + std^2 - 1) / 2 - log std: (1 + 4 - 1) / 2 - log 2 and (9 + 1 - 1) / 2 - 0
    distribution = {"mean": torch.tensor([[1.0, 3.0]]), "log_std": torch.tensor([[2.0, 1.0]]).log()}
    _, divergence = Gaussian(2).draw(distribution, torch.zeros(1, 1, 2))
    assert divergence.item() == pytest.approx(2 - 0.693147 + 4.5, abs=1e-5)


def test_a_gaussian_moves_and_stretches_noise() -> None:
    distribution = {"mean": torch.tensor([[1.0, 3.0]]), "log_std": torch.tensor([[2.0, 1.0]]).log()}
    latents, _ = Gaussian(2).draw(distribution, torch.tensor([[[1.0, -1.0], [0.0, 2.0]]]))
    torch.testing.assert_close(latents, torch.tensor([[[3.0, 2.0], [1.0, 5.0]]]))


def test_a_flow_begins_as_the_law_of_the_prior() -> None:
    flow, noise = Flow(ORDERS, hidden=4), drawn(2, 6, SIZE, purpose="noise").float()
    latents, divergence = flow.draw(flow.begin(ROWS), noise)
    torch.testing.assert_close(divergence, torch.zeros(2))
    assert torch.equal(latents, noise[:, :, ORDERS[0]][:, :, ORDERS[1]][:, :, ORDERS[2]])


@pytest.mark.parametrize("row", [0, 1])
def test_a_flows_density_is_that_of_the_noise_over_the_jacobian(row: int) -> None:
    flow = Flow(ORDERS, hidden=4)
    distribution, noise = anywhere(flow.begin(ROWS)), drawn(2, 1, SIZE, purpose="noise")
    latents, divergence = flow.draw(distribution, noise)

    def latent_of(numbers: Tensor) -> Tensor:
        return flow.draw(select(distribution, slice(row, row + 1)), numbers[None, None])[0].flatten()

    jacobian = torch.autograd.functional.jacobian(latent_of, noise[row, 0])
    standard = MultivariateNormal(torch.zeros(SIZE, dtype=torch.float64), torch.eye(SIZE, dtype=torch.float64))
    log_density = standard.log_prob(noise[row, 0]) - torch.linalg.slogdet(jacobian).logabsdet
    expected = log_density - standard.log_prob(latents[row, 0])
    torch.testing.assert_close(divergence[row], expected)


def test_a_flows_divergence_is_the_mean_over_its_draws() -> None:
    flow = Flow(ORDERS, hidden=4)
    distribution, noise = anywhere(flow.begin(ROWS)), drawn(2, 3, SIZE, purpose="noise")
    divergences = torch.stack([flow.draw(distribution, noise[:, draw : draw + 1])[1] for draw in range(3)])
    torch.testing.assert_close(flow.draw(distribution, noise)[1], divergences.mean(0))


def test_a_coupling_adds_to_the_second_half_what_its_network_makes_of_the_first() -> None:
    flow = Flow(ORDERS[:1], hidden=4)
    distribution = anywhere(flow.begin(ROWS))
    distribution |= {name: torch.zeros_like(distribution[name]) for name in ("0.log_scale", "0.shift")}
    noise = drawn(2, 6, SIZE, purpose="noise")
    latents, permuted = flow.draw(distribution, noise)[0][1], noise[1][:, ORDERS[0]]
    hidden = permuted[:, :2]
    for layer in range(3):
        hidden = hidden if layer == 0 else F.elu(hidden)
        weight, bias = distribution[f"0.coupling.{layer}.weight"][1], distribution[f"0.coupling.{layer}.bias"][1, 0]
        hidden = F.linear(hidden, weight.T, bias)
    torch.testing.assert_close(latents, torch.cat((permuted[:, :2], permuted[:, 2:] + hidden), 1))


def test_momentum_is_torchs_sgd() -> None:
    start, slopes = drawn(3, 4, purpose="start"), drawn(20, 3, 4, purpose="slopes")
    expected = start.clone().requires_grad_(True)
    sgd, rule = torch.optim.SGD([expected], lr=0.1, momentum=0.9), Momentum(0.1, 0.9)
    variables = {"z": start}
    memory = rule.begin(variables)
    for step, slope in enumerate(slopes):
        expected.grad = slope.clone()
        sgd.step()
        variables, memory = rule.step(variables, {"z": slope}, memory, rule.rates(step))
    torch.testing.assert_close(variables["z"], expected.detach())


# The whole attack, in float32 as a job runs it.


SMALL: dict[str, Any] = {"samples": 4, "draws": 3, "keep": 3, "blocks": 2, "hidden": 5, "lr": 0.01}


def attacked(folder: Path, *, stop_at: int | None = None, **settings: Any) -> Reconstructions:
    attack = Vmi(VmiConfig(**{**SMALL, "steps": 30, **settings}))
    access = white_box(golden_networks(torch.float32))
    return attack.run(access, torch.arange(IDENTITIES), context=context_at(folder, stop_at=stop_at))


def test_a_loss_is_mean_cross_entropy_and_weighted_divergence() -> None:
    networks, attack = golden_networks(torch.float32), Vmi(VmiConfig(**SMALL, family="gaussian", kl_weight=0.5))
    distribution = {name: tensor.float() for name, tensor in anywhere(Gaussian(LATENT_SIZE).begin(ROWS)).items()}
    losses = attack.losses(white_box(networks), distribution, ROWS, Step.at(7, device=CPU))
    noise = ROWS.normal(4 * LATENT_SIZE, "samples", step=torch.tensor(7)).view(2, 4, LATENT_SIZE)
    for row, identity in enumerate(ROWS.identities.tolist()):
        mean, std = distribution["mean"][row], distribution["log_std"][row].exp()
        logits = networks.target(networks.generator(mean + std * noise[row]))
        looks = F.cross_entropy(logits, torch.full((4,), identity))
        divergence = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum()
        torch.testing.assert_close(losses[row], looks + 0.5 * divergence)


@pytest.mark.parametrize("family", ["gaussian", "flow"])
def test_a_fitted_law_draws_what_the_target_names_more_often_than_the_prior_does(tmp_path: Path, family: str) -> None:
    settings: dict[str, Any] = {"family": family, "draws": 50, "keep": 50, "samples": 16, "lr": 0.05}
    before, after = (attacked(tmp_path / str(steps), steps=steps, **settings) for steps in (1, 80))
    target = golden_networks(torch.float32).target
    named = [
        (target(reconstructions.images).argmax(1) == reconstructions.identities).float().mean()
        for reconstructions in (before, after)
    ]
    assert named[0] < 0.4  # 1 in 6 by chance
    assert named[1] > 0.8


def test_each_law_gives_so_many_reconstructions(tmp_path: Path) -> None:
    reconstructions = attacked(tmp_path, restarts=2, keep=4, steps=1)
    assert reconstructions.identities.tolist() == [identity for identity in range(IDENTITIES) for _ in range(6)]
    assert reconstructions.restarts[:6].tolist() == [0, 0, 0, 1, 1, 1]
    assert reconstructions.identities[reconstructions.kept].bincount().tolist() == [4] * IDENTITIES


def test_keeping_more_than_are_drawn_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValidationError, match="keep 7 is above the 6 made of each identity: lower it or make more"):
        VmiConfig(restarts=2, draws=3, keep=7)


def test_reconstructions_are_draws_of_the_fitted_law(tmp_path: Path) -> None:
    attack, networks = Vmi(VmiConfig(**SMALL, family="gaussian")), golden_networks(torch.float32)
    narrow = {"mean": drawn(2, LATENT_SIZE, purpose="mean").float(), "log_std": torch.full((2, LATENT_SIZE), -30.0)}
    rows, latents = attack.latents(white_box(networks), {"variables": narrow}, ROWS)
    torch.testing.assert_close(latents, narrow["mean"].repeat_interleave(3, 0))
    assert rows.identities.tolist() == [4, 4, 4, 1, 1, 1]


def test_queries_are_the_samples_of_each_step_and_one_for_each_image(tmp_path: Path) -> None:
    assert attacked(tmp_path).queries == IDENTITIES * 30 * 4 + IDENTITIES * 3


@pytest.mark.parametrize("family", ["gaussian", "flow"])
@pytest.mark.parametrize("chunk_rows", [1, 4])
def test_the_size_of_a_chunk_changes_no_more_than_float_rounding(tmp_path: Path, chunk_rows: int, family: str) -> None:
    unsplit = attacked(tmp_path / "whole", family=family)
    parts = attacked(tmp_path / "parts", family=family, chunk_rows=chunk_rows)
    torch.testing.assert_close(parts.latents, unsplit.latents, rtol=0.0, atol=1e-4)  # 30 steps of float32


@pytest.mark.parametrize("family", ["gaussian", "flow"])
def test_a_resumed_attack_ends_with_the_same_bits(tmp_path: Path, family: str) -> None:
    undisturbed = attacked(tmp_path / "undisturbed", family=family)
    with pytest.raises(Interrupted):
        attacked(tmp_path / "interrupted", family=family, stop_at=25)
    resumed = attacked(tmp_path / "interrupted", family=family)
    assert torch.equal(resumed.latents, undisturbed.latents)
    assert resumed.queries == undisturbed.queries


def test_no_weight_ever_receives_a_gradient(tmp_path: Path) -> None:
    networks = golden_networks(torch.float32)
    attack = Vmi(VmiConfig(**SMALL, steps=2))
    attack.run(white_box(networks), torch.arange(IDENTITIES), context=context_at(tmp_path))
    assert all(weight.grad is None for weight in networks.parameters())


def test_an_attack_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    access, attack = white_box(golden_networks(torch.float32)), Vmi(VmiConfig(**SMALL, steps=2))
    before = torch.get_rng_state()
    attack.run(access, torch.arange(IDENTITIES), context=context_at(tmp_path))
    assert torch.equal(torch.get_rng_state(), before)
