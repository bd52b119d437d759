"""PLG-MI against numbers recorded from its authors' code: losses, the search inside classes, the projection critic.

Everything runs in float64; the recording asks for 1e-9 on latents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.golden_networks import IDENTITIES, assert_recorded, follow, golden_networks, trajectory
from workloads.attacks.plgmi import Plgmi, PlgmiConfig
from workloads.inversion.attack import Access
from workloads.inversion.rows import Rows
from workloads.observation.losses import cross_entropy, margin, poincare
from workloads.observation.oracles import WhiteBoxOracle
from workloads.observation.views import ViewConfig
from workloads.priors.plg_gan import ProjectionCritic, hinge

STEPS = 20
RECORDED = {"margin": "margin", "cross_entropy": "ce", "poincare": "poincare"}


# Losses


@pytest.mark.parametrize(
    ("loss", "name"),
    [(margin, "margin"), (cross_entropy, "cross_entropy"), (poincare, "poincare")],
    ids=["margin", "cross_entropy", "poincare"],
)
def test_a_loss_has_the_recorded_mean(
    case: dict[str, Tensor], loss: Callable[[Tensor, Tensor], Tensor], name: str
) -> None:
    assert_recorded(loss(case["logits"].double(), case["labels"]).mean(), case[name])


def test_the_margin_is_the_recorded_one_row_by_row(case: dict[str, Tensor]) -> None:
    assert_recorded(margin(case["logits"].double(), case["labels"]), case["margin_rows"])


def test_the_critics_hinge_loss_is_the_recorded_one(case: dict[str, Tensor]) -> None:
    fake, real = case["hinge_fake"].double(), case["hinge_real"].double()
    assert_recorded(hinge(fake, real), case["discriminator_hinge"])


# The search


@pytest.fixture(scope="module")
def access() -> Access[WhiteBoxOracle]:
    networks = golden_networks()
    return Access(WhiteBoxOracle(networks.target), torch.device("cpu"), prior=networks.conditional_prior())


def search(
    access: Access[WhiteBoxOracle], start: Tensor, identities: Tensor, objective: Any, *, batch: int = IDENTITIES
) -> tuple[Tensor, Tensor]:
    """Latents, (STEPS + 1, B, Z), and losses, (STEPS, B), where both views of a step are the image as it is."""
    attack = Plgmi(PlgmiConfig(objective=objective, view=ViewConfig(), batch_reference=batch))
    rows = Rows.of(identities, 1, key="")
    states, losses = follow(attack, access, {"latents": start.double()}, rows, steps=STEPS)
    return trajectory(states, "latents"), losses


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("objective", RECORDED)
def test_latents_follow_the_authors(
    case: dict[str, Tensor], access: Access[WhiteBoxOracle], objective: str, start: int
) -> None:
    latents, _ = search(access, case["starts"][start], case["identities"], objective)
    assert_recorded(latents, case[f"{RECORDED[objective]}.latents"][start])


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("objective", RECORDED)
def test_the_mean_loss_is_the_authors_sum_over_two_views(
    case: dict[str, Tensor], access: Access[WhiteBoxOracle], objective: str, start: int
) -> None:
    _, losses = search(access, case["starts"][start], case["identities"], objective)
    assert_recorded(losses.mean(1), case[f"{RECORDED[objective]}.loss"][start], atol=1e-8)


def test_a_row_alone_moves_as_in_the_batch(case: dict[str, Tensor], access: Access[WhiteBoxOracle]) -> None:
    alone, _ = search(access, case["starts"][0, 2:3], case["identities"][2:3], "margin")
    assert_recorded(alone, case["margin.latents"][0, :, 2:3])


# The projection critic


OURS = {"c1": "first", "c2": "second", "c_sc": "shortcut"}


def place(name: str) -> str:
    """Our name of a layer of the recording, as block3.c1 or l_y."""
    block, _, layer = name.partition(".")
    if not layer:
        return {"l6": "value", "l_y": "embedding"}[block]
    return f"trunk.blocks.{int(block.removeprefix('block')) - 1}.{OURS[layer]}"


def recorded_state(critic: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The recording's weights and singular vectors, by our names."""
    inside = {"weight_orig": "parametrizations.weight.original", "bias": "bias"}
    inside |= {"weight_u": "parametrizations.weight.0.left", "weight_v": "parametrizations.weight.0.right"}
    state = {}
    for name, tensor in critic.items():
        if name.startswith(prefix):
            layer, _, kind = name.removeprefix(prefix).rpartition(".")
            state[f"{place(layer)}.{inside[kind]}"] = tensor
    return state


@pytest.fixture
def critic(case: dict[str, Tensor]) -> ProjectionCritic:
    network = ProjectionCritic([2, 4, 8, 16, 32], channels=3, classes=6).double()
    network.load_state_dict(recorded_state(case, "projection.weights."))
    return network.eval()


def test_the_critic_gives_the_recorded_scores(case: dict[str, Tensor], critic: ProjectionCritic) -> None:
    scores = critic(case["projection.images"].double(), case["projection.labels"])
    assert_recorded(scores[:, None], case["projection.fake_scores"])


def test_the_critic_gives_the_recorded_scores_of_real_images(case: dict[str, Tensor], critic: ProjectionCritic) -> None:
    scores = critic(case["projection.real_images"].double(), case["projection.real_labels"])
    assert_recorded(scores[:, None], case["projection.real_scores"])


def test_the_critic_without_classes_gives_the_recorded_scores(
    case: dict[str, Tensor], critic: ProjectionCritic
) -> None:
    scores = critic(case["projection.images"].double())
    assert_recorded(scores[:, None], case["projection.unconditional_scores"])


def test_the_losses_of_the_critics_scores_are_the_recorded_ones(
    case: dict[str, Tensor], critic: ProjectionCritic
) -> None:
    fake = critic(case["projection.images"].double(), case["projection.labels"])
    real = critic(case["projection.real_images"].double(), case["projection.real_labels"])
    assert_recorded(hinge(fake, real), case["projection.discriminator_loss"])


@pytest.fixture
def trained(case: dict[str, Tensor], critic: ProjectionCritic) -> tuple[ProjectionCritic, Tensor, Tensor]:
    """The critic after a pass of made and one of real images in training mode, and what it gave."""
    critic.train()
    fake = critic(case["projection.images"].double(), case["projection.labels"])
    real = critic(case["projection.real_images"].double(), case["projection.real_labels"])
    return critic, fake, real


def test_each_pass_in_training_improves_the_norms_as_recorded(
    case: dict[str, Tensor], trained: tuple[ProjectionCritic, Tensor, Tensor]
) -> None:
    _, fake, real = trained
    assert_recorded(fake[:, None], case["projection.train_fake_scores"])
    assert_recorded(real[:, None], case["projection.train_real_scores"])


def test_the_singular_vectors_after_two_passes_are_the_recorded_ones(
    case: dict[str, Tensor], trained: tuple[ProjectionCritic, Tensor, Tensor]
) -> None:
    wanted = recorded_state(case, "projection.after_two_calls.")
    vectors = trained[0].state_dict()
    for name, recorded in wanted.items():
        assert_recorded(vectors[name], recorded)


def test_both_passes_of_a_step_can_be_backpropagated_together(
    trained: tuple[ProjectionCritic, Tensor, Tensor],
) -> None:
    critic, fake, real = trained
    hinge(fake, real).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in critic.parameters())


def test_a_pass_in_use_leaves_the_singular_vectors_alone(case: dict[str, Tensor], critic: ProjectionCritic) -> None:
    before = {name: tensor.clone() for name, tensor in critic.state_dict().items()}
    critic(case["projection.images"].double(), case["projection.labels"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in critic.state_dict().items())
