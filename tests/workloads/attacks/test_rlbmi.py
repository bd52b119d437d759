"""RLB-MI: its agents against torch's own networks, optimiser and distributions; its rewards by hand; its queries."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from tests.support.draws import drawn
from tests.support.golden_networks import IDENTITIES, LATENT_SIZE, golden_networks
from tests.support.interruptions import Interrupted, context_at
from workloads.attacks.rlbmi import Rlbmi, RlbmiConfig
from workloads.core.checkpoints import State
from workloads.core.randomness import generator
from workloads.inversion.attack import Access, Reconstructions
from workloads.inversion.optimizers import Adam, Variables
from workloads.inversion.rows import Rows, select
from workloads.inversion.soft_actor_critic import SoftActorCritic
from workloads.observation.oracles import Answer, ScoreOracle

CPU = torch.device("cpu")
SIZE, HIDDEN, BATCH, LR = 3, 5, 7, 1e-2
ROWS = Rows(torch.tensor([4, 1]), torch.tensor([0, 2]), "key")


def doubled(state: State) -> State:
    return {name: doubled(tensor) if isinstance(tensor, dict) else tensor.double() for name, tensor in state.items()}


# Agents. The reference is one agent at a time, of torch's modules, optimiser and distributions.


def module_of(weights: Variables, row: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for layer in range(3):
        inputs, outputs = weights[f"{layer}.weight"].shape[1:]
        linear = nn.Linear(inputs, outputs).double()
        linear.weight.data = weights[f"{layer}.weight"][row].T.clone()
        linear.bias.data = weights[f"{layer}.bias"][row, 0].clone()
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def policy_of(actor: nn.Module, states: Tensor) -> TransformedDistribution:
    mean, log_std = actor(states).chunk(2, -1)
    return TransformedDistribution(Independent(Normal(mean, log_std.clamp(-20, 2).exp()), 1), TanhTransform())


def reference(agents: State, row: int, lessons: list[dict[str, Tensor]], *, official: bool) -> State:
    """The weights of one agent after it has learned from each lesson."""
    networks = {name: module_of(weights, row) for name, weights in agents["networks"].items() if name != "temperature"}
    log_alpha = torch.zeros((), dtype=torch.float64, requires_grad=True)
    adams = {name: torch.optim.Adam(network.parameters(), lr=LR) for name, network in networks.items()}
    adams["temperature"] = torch.optim.Adam([log_alpha], lr=LR)
    critics = [network for name, network in networks.items() if name.startswith("critic")]

    def descend(name: str, loss: Tensor) -> None:
        adams[name].zero_grad()
        loss.backward(retain_graph=True)
        adams[name].step()

    for lesson in lessons:
        states, actions = lesson["states"][row], lesson["actions"][row]
        for name, critic in networks.items():
            if name.startswith("critic"):
                values = critic(torch.cat((states, actions), -1))[:, 0]
                descend(name, 0.5 * nn.functional.mse_loss(values, lesson["rewards"][row]))
        policy = policy_of(networks["actor"], states)
        mean, log_std = networks["actor"](states).chunk(2, -1)
        noise = lesson["noise"][row, 0, 0] if official else lesson["noise"][row]
        chosen = (mean + log_std.exp() * noise).tanh()
        log_prob = policy.log_prob(chosen) / (SIZE if official else 1)
        worth = torch.stack([critic(torch.cat((states, chosen), -1))[:, 0] for critic in critics]).min(0).values
        alpha = log_alpha.detach().exp()
        descend("actor", (alpha * log_prob - worth).mean())
        descend("temperature", -(log_alpha * (log_prob.detach() - SIZE)).mean())
    weights = {
        name: {
            key: tensor
            for number, layer in enumerate(module for module in network if isinstance(module, nn.Linear))
            for key, tensor in (
                (f"{number}.weight", layer.weight.detach().T),
                (f"{number}.bias", layer.bias.detach()[None]),
            )
        }
        for name, network in networks.items()
    }
    return weights | {"temperature": {"log": log_alpha.detach()}}


def lessons() -> list[dict[str, Tensor]]:
    shape = (len(ROWS), BATCH, SIZE)
    return [
        {
            "states": drawn(*shape, purpose=f"states {step}"),
            "actions": drawn(*shape, purpose=f"actions {step}").tanh(),
            "rewards": drawn(*shape[:2], purpose=f"rewards {step}"),
            "noise": drawn(*shape, purpose=f"noise {step}"),
        }
        for step in range(5)
    ]


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("official", [False, True])
def test_stacked_agents_learn_as_one_agent_of_torchs_own_parts(official: bool, row: int) -> None:
    critics = ("critic_1",) if official else ("critic_1", "critic_2")
    method = SoftActorCritic(SIZE, HIDDEN, LR, critics=critics, averaged=official, shared_noise=official)
    agents = begun = doubled(method.begin(ROWS))
    for step, lesson in enumerate(lessons()):
        agents = method.learn(agents, **lesson, rates=Adam(LR).rates(step))
    expected = reference(begun, row, lessons(), official=official)
    # float64, five steps: Adam divides by gradients that may be small, so less than all 15 digits agree
    torch.testing.assert_close(select(agents["networks"], torch.tensor(row)), expected, rtol=1e-7, atol=1e-9)


def test_actions_lie_inside_the_unit_box_and_without_noise_are_the_squeezed_mean() -> None:
    method = SoftActorCritic(SIZE, HIDDEN, LR)
    agents, states = doubled(method.begin(ROWS)), drawn(2, BATCH, SIZE, purpose="states")
    noise = 100 * drawn(2, BATCH, SIZE, purpose="noise")
    assert method.act(agents, states, noise).abs().max() <= 1
    mean = module_of(agents["networks"]["actor"], 1)(states[1])[:, :SIZE]
    torch.testing.assert_close(method.act(agents, states, torch.zeros_like(noise))[1], mean.tanh())


def test_agents_come_nearer_to_the_actions_worth_most_each_to_its_own() -> None:
    method, wanted = SoftActorCritic(2, 32, 1e-2), torch.tensor([[[0.6, -0.4]], [[-0.5, 0.2]]])
    begun = agents = method.begin(ROWS)
    draws, still = generator("test", "bandit"), torch.zeros(2, 1, 2)
    for step in range(300):
        states, noise, more = torch.randn(3, 2, 32, 2, generator=draws).unbind()
        actions = method.act(agents, states, noise)
        rewards = -20 * (actions - wanted).square().sum(2)
        agents = method.learn(agents, states, actions, rewards, noise=more, rates=Adam(LR).rates(step))
    before, after = ((method.act(learned, still, still) - wanted).norm(dim=2) for learned in (begun, agents))
    assert (after < before / 2).all()


# Rewards and memory


class Fixed(ScoreOracle):
    """Answers every image with the same scores."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__(lambda images: scores.log().expand(len(images), -1))


class Watched(ScoreOracle):
    """Remembers its answers."""

    def __init__(self, logits: Answer) -> None:
        super().__init__(logits)
        self.answers: list[Tensor] = []

    def probabilities(self, images: Tensor) -> Tensor:
        self.answers.append(super().probabilities(images))
        return self.answers[-1]


def access_to(oracle: ScoreOracle) -> Access[ScoreOracle]:
    return Access(oracle, CPU, prior=golden_networks(torch.float32).prior())


def target() -> nn.Module:
    return golden_networks(torch.float32).target


def searched(attack: Rlbmi, access: Access[ScoreOracle], rows: Rows, steps: int) -> State:
    state = attack.begin(access, rows)
    for step in range(steps):
        state, _ = attack.advance(access, state, rows, step)
    return state


def test_a_reward_is_four_log_confidences_and_eight_log_margins() -> None:
    access = access_to(Fixed(torch.tensor([0.7, 0.2, 0.1])))
    rows = Rows.of(torch.tensor([0, 1]), 1, key="")
    past = searched(Rlbmi(RlbmiConfig(steps=1)), access, rows, 1)["past"]
    won = 4 * math.log(0.7) + 8 * math.log(0.7 - 0.2)
    lost = 4 * math.log(0.2) + 8 * math.log(1e-7)  # the margin is -0.5
    assert past["rewards"][:, 0].tolist() == pytest.approx([won, lost], rel=1e-5)


def test_a_score_of_nothing_gives_a_finite_reward() -> None:
    access = access_to(Fixed(torch.tensor([1.0, 0.0])))
    past = searched(Rlbmi(RlbmiConfig(steps=1)), access, Rows.of(torch.tensor([1]), 1, key=""), 1)["past"]
    assert past["rewards"].isfinite().all()


def test_a_full_memory_forgets_its_oldest_episodes() -> None:
    attack, access = Rlbmi(RlbmiConfig(steps=5, buffer=3, batch=100)), access_to(ScoreOracle(target()))
    unbounded = Rlbmi(RlbmiConfig(steps=5, batch=100))
    few, all_five = (searched(agent, access, ROWS, 5)["past"]["actions"] for agent in (attack, unbounded))
    assert torch.equal(few, all_five[:, [3, 4, 2]])


def test_the_image_that_scored_highest_when_shown_is_kept() -> None:
    oracle = Watched(target())
    attack, rows = Rlbmi(RlbmiConfig(steps=20, batch=4, hidden=8)), Rows.of(torch.tensor([3]), 1, key="")
    best = searched(attack, access_to(oracle), rows, 20)["best"]
    shown = torch.cat(oracle.answers[1::2])[:, 3]  # asked about an action, then about what is shown, by turns
    assert best["confidence"].item() == shown.max().item()
    image = golden_networks(torch.float32).generator(best["latents"])
    torch.testing.assert_close(target()(image).softmax(1)[:, 3], best["confidence"])


def test_learning_begins_when_there_are_more_episodes_than_a_batch() -> None:
    attack, access = Rlbmi(RlbmiConfig(steps=10, batch=4, hidden=8)), access_to(ScoreOracle(target()))
    begun = attack.begin(access, ROWS)["agents"]["networks"]["actor"]["0.weight"]
    after4, after5 = (
        searched(attack, access, ROWS, steps)["agents"]["networks"]["actor"]["0.weight"] for steps in (4, 5)
    )
    assert torch.equal(after4, begun)
    assert not torch.equal(after5, begun)


# The whole attack, in float32 as a job runs it.


def attacked(folder: Path, *, stop_at: int | None = None, **settings: Any) -> Reconstructions:
    attack = Rlbmi(RlbmiConfig(**{"steps": 30, "batch": 8, "hidden": 8, **settings}))
    return attack.run(
        access_to(ScoreOracle(target())), torch.arange(IDENTITIES), context=context_at(folder, stop_at=stop_at)
    )


def test_latents_lie_inside_the_unit_box(tmp_path: Path) -> None:
    reconstructions = attacked(tmp_path)
    assert reconstructions.latents.shape == (IDENTITIES, LATENT_SIZE)
    assert reconstructions.latents.abs().max() < 1


@pytest.mark.parametrize(("fidelity", "per_episode"), [("fixed", 2), ("official", 3)])
def test_queries_are_counted_in_each_episode_and_once_for_each_image(
    tmp_path: Path, fidelity: str, per_episode: int
) -> None:
    assert attacked(tmp_path, fidelity=fidelity).queries == IDENTITIES * 30 * per_episode + IDENTITIES


@pytest.mark.parametrize("chunk_rows", [1, 4])
def test_the_size_of_a_chunk_changes_no_more_than_float_rounding(tmp_path: Path, chunk_rows: int) -> None:
    unsplit = attacked(tmp_path / "whole", chunk_rows=256)
    parts = attacked(tmp_path / "parts", chunk_rows=chunk_rows)
    # 22 steps of Adam at 5e-4 carry the rounding of batched products, 1e-7, on; far below one step.
    torch.testing.assert_close(parts.latents, unsplit.latents, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"fidelity": "official"}, {"batch": 26, "chunk_rows": 1}])
def test_a_resumed_attack_ends_with_the_same_bits(tmp_path: Path, settings: dict[str, Any]) -> None:
    undisturbed = attacked(tmp_path / "undisturbed", **settings)
    with pytest.raises(Interrupted):
        attacked(tmp_path / "interrupted", **settings, stop_at=25)
    resumed = attacked(tmp_path / "interrupted", **settings)
    assert torch.equal(resumed.latents, undisturbed.latents)
    assert resumed.queries == undisturbed.queries


def test_an_attack_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    access, attack = access_to(ScoreOracle(target())), Rlbmi(RlbmiConfig(steps=10, batch=4, hidden=8))
    before = torch.get_rng_state()
    attack.run(access, torch.arange(IDENTITIES), context=context_at(tmp_path))
    assert torch.equal(torch.get_rng_state(), before)
