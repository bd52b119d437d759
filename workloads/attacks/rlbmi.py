"""RLB-MI: train an agent per identity to find latents whose images the target scores highest."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from workloads.core.checkpoints import State
from workloads.core.config import Steps
from workloads.inversion.attack import ATTACKS, Access, SearchConfig
from workloads.inversion.optimizers import Adam
from workloads.inversion.row_search import RowSearch
from workloads.inversion.rows import Rows
from workloads.inversion.soft_actor_critic import SoftActorCritic
from workloads.inversion.step import Step
from workloads.observation.oracles import LabelOracle, ScoreOracle

SMALLEST_MARGIN = 1e-7


class RlbmiConfig(SearchConfig):
    """Settings of RLB-MI; the defaults are those of the authors' code."""

    version: ClassVar[int] = 4
    kind: Literal["rlbmi"] = "rlbmi"
    restarts: PositiveInt = 1
    """Agents per identity."""
    steps: Steps = 40_000
    """Episodes per agent. In each it acts once, learns once, and shows once what it has learned."""
    chunk_rows: PositiveInt = 8
    """Agents trained at once. With latents of 100 an agent remembers 201 numbers per episode, so 32 MB after 40,000,
    which checkpoints hold as well."""
    confidence_weight: NonNegativeFloat = 4.0
    """Weight of log p(identity). The authors count it twice with weight 2, for the image of the state and for that of
    the action, which are the same image."""
    margin_weight: NonNegativeFloat = 8.0
    """Weight of log(p(identity) - largest other p)."""
    hidden: PositiveInt = 256
    """Width of the agent's networks."""
    lr: PositiveFloat = 5e-4
    """Learning rate of the agent's networks."""
    batch: PositiveInt = 256
    """Past actions that each learning step draws; learning begins once there are more."""
    buffer: PositiveInt = 1_000_000
    """Past actions that an agent remembers."""
    fidelity: Literal["fixed", "official"] = "fixed"
    """`official` averages the log-probability of an action over its dimensions and compares it with the target for
    their sum, so that exploration always dies away; draws one number of noise for all dimensions and for a
    whole batch; uses one critic; shows what it has learned with noise; and asks for each action's scores twice."""


@ATTACKS.register(RlbmiConfig)
class Rlbmi(RowSearch[ScoreOracle]):
    """Reinforcement learning from scores: a policy turns random latents into latents whose images score high.

    With the authors' settings the next state is the action itself and ends its episode, so that the value of an action
    is its reward: their discount and target networks have no effect and are left out. The image that scores highest
    among those shown after each episode is the reconstruction.

    Source: Han et al., "Reinforcement Learning-Based Black-Box Model Inversion Attacks", CVPR 2023;
    Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", 2018.
    """

    oracle: ClassVar[type[LabelOracle]] = ScoreOracle
    stages = ("train a policy", "select")
    config: RlbmiConfig

    def begin(self, access: Access[ScoreOracle], rows: Rows) -> State:
        """Untrained agents with empty memories."""
        size, length = access.required_prior.latent_size, min(self.config.buffer, self.config.steps)

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(len(rows), *shape, device=access.device)

        return {
            "agents": self._method(access).begin(rows),
            "past": {"states": zeros(length, size), "actions": zeros(length, size), "rewards": zeros(length)},
            "best": {"latents": zeros(size), "confidence": zeros()},
        }

    def rates(self, step: int) -> tuple[float, ...]:
        """The learning rates of the episode's lesson; those of the first while there is none."""
        return Adam(self.config.lr).rates(max(step - self.config.batch, 0))

    def phase(self, step: int) -> int:
        """1 once agents learn, which they do when they remember enough; 0 before."""
        return int(step >= self.config.batch)

    def move(self, access: Access[ScoreOracle], state: State, rows: Rows, step: Step) -> tuple[State, Tensor]:
        """One episode: act, remember the reward, learn, and keep the best image shown."""
        method, agents, past = self._method(access), state["agents"], state["past"]
        normal = rows.normal(4 * method.size, "episode", step=step.counter)
        states, noise, shown, shown_noise = normal.view(-1, 4, 1, method.size).unbind(1)
        actions = method.act(agents, states, noise)
        self._remember(past, step, states[:, 0], actions[:, 0], self._rewards(access, actions[:, 0], rows))
        if step.phase:
            noise = rows.normal(self.config.batch * method.size, "policy", step=step.counter)
            noise = noise.view(-1, self.config.batch, method.size)
            agents = method.learn(agents, *self._sample(past, rows, step), noise=noise, rates=step.rates)
        latents = method.act(agents, shown, shown_noise if self._official else torch.zeros_like(shown))[:, 0]
        best = self._better(access, state["best"], latents, rows)
        return {"agents": agents, "past": past, "best": best}, 1 - best["confidence"]

    @property
    def _official(self) -> bool:
        return self.config.fidelity == "official"

    def _method(self, access: Access[ScoreOracle]) -> SoftActorCritic:
        return SoftActorCritic(
            size=access.required_prior.latent_size,
            hidden=self.config.hidden,
            lr=self.config.lr,
            critics=("critic_1",) if self._official else ("critic_1", "critic_2"),
            averaged=self._official,
            shared_noise=self._official,
        )

    def _rewards(self, access: Access[ScoreOracle], actions: Tensor, rows: Rows) -> Tensor:
        """Rewards of actions, from the target's scores of their images. Shape: (B, Z) to (B,)."""
        scores, identities = self._scores_of(access, actions, rows), rows.identities[:, None]
        if self._official:
            self._scores_of(access, actions, rows)  # for the next state, which is the action
        score, other_score = scores.gather(1, identities).flatten(), scores.scatter(1, identities, 0.0).amax(1)
        confidence = score.clamp_min(torch.finfo(score.dtype).tiny).log()
        margin = (score - other_score).clamp_min(SMALLEST_MARGIN).log()
        return self.config.confidence_weight * confidence + self.config.margin_weight * margin

    def _remember(self, past: State, step: Step, states: Tensor, actions: Tensor, rewards: Tensor) -> None:
        """Write an episode over the oldest one, in place: a copy of them all would cost more than a step."""
        slot = (step.counter % past["rewards"].shape[1])[None]
        for name, episode in (("states", states), ("actions", actions), ("rewards", rewards)):
            past[name].index_copy_(1, slot, episode[:, None])

    def _sample(self, past: State, rows: Rows, step: Step) -> tuple[Tensor, Tensor, Tensor]:
        """Some past states, actions and rewards of each row, drawn with replacement."""
        episodes = (step.counter + 1).clamp(max=past["rewards"].shape[1])
        index = rows.draws("lesson").at(step.counter).integers(episodes, self.config.batch)
        row = torch.arange(len(rows), device=index.device)[:, None]
        return past["states"][row, index], past["actions"][row, index], past["rewards"][row, index]

    def _better(self, access: Access[ScoreOracle], best: State, latents: Tensor, rows: Rows) -> State:
        """The latents whose images score highest so far."""
        scores = self._scores_of(access, latents, rows)
        confidence = scores.gather(1, rows.identities[:, None]).flatten()
        higher = confidence >= best["confidence"]
        return {
            "latents": torch.where(higher[:, None], latents, best["latents"]),
            "confidence": torch.where(higher, confidence, best["confidence"]),
        }

    def _scores_of(self, access: Access[ScoreOracle], latents: Tensor, rows: Rows) -> Tensor:
        """Scores of the images of latents. Shape: (B, Z) to (B, classes)."""

        def probabilities(batch: slice) -> Tensor:
            return access.target.probabilities(self.render(access, latents[batch], rows[batch]))

        return torch.cat(access.batches.run(probabilities, len(rows)))

    def outcome(self, state: State) -> State:
        """The latents of the highest-scoring image."""
        return {"latents": state["best"]["latents"]}

    def latents(self, access: Access[ScoreOracle], state: State, rows: Rows) -> tuple[Rows, Tensor]:
        """One latent per agent."""
        return rows, state["latents"]

    def planned_queries(self, identities: int) -> int:
        """Adds the scores of every episode, unless it may end early."""
        scores = 3 if self._official else 2
        episodes = 0 if self.config.converged else identities * self.config.restarts * self.config.steps
        return super().planned_queries(identities) + scores * episodes

    def protocol(self) -> dict[str, Any]:
        """Adds the fidelity."""
        return super().protocol() | {"fidelity": self.config.fidelity}
