"""The loop that fits a generator against a critic: steps, checkpoints, progress. Priors differ in their losses."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.config import Addition
from workloads.core.errors import DivergedError
from workloads.observation.oracles import LabelOracle
from workloads.priors.base import Prior, PriorConfig

Beta = Annotated[float, Field(ge=0, lt=1)]
REPORT_EVERY = 50  # critic steps
Figures = Mapping[str, Tensor]
"""Single numbers worth watching, by name."""


class AdversarialConfig(PriorConfig):
    """How a generator is fitted against a critic."""

    latent_size: PositiveInt = 100
    steps: PositiveInt = 6000
    """Updates of the critic."""
    critic_steps: PositiveInt = 5
    """Updates of the critic for each one of the generator."""
    batch_size: PositiveInt = 64
    lr: PositiveFloat = 2e-4
    betas: tuple[Beta, Beta] = (0.5, 0.999)
    ema: Annotated[float | None, Field(gt=0, lt=1), Addition()] = None
    """Decay of a moving average over the generator's updates; the average is then the generator. The originals have
    none; fits of a few thousand steps gain most from it."""
    seed: int = 0


@dataclass(frozen=True)
class PublicBatches:
    """What a prior is fitted on. Shape: images (N, C, H, W) uint8, on the CPU."""

    images: Tensor
    device: torch.device

    def draw(self, count: int, draws: torch.Generator) -> Tensor:
        """Images drawn with replacement. Shape: (count, C, H, W) float in [0, 1]."""
        return self.images_at(torch.randint(len(self.images), (count,), generator=draws))

    def images_at(self, indices: Tensor) -> Tensor:
        return self.images[indices].float().div_(255).to(self.device)


class AdversarialPrior(Prior):
    """A generator fitted against a critic, each with an Adam of its own. A subclass sets both and their losses."""

    generator_first: ClassVar[bool] = False
    """Whether the generator moves before the critic's steps and not after them."""
    config: AdversarialConfig
    generator: nn.Module
    critic: nn.Module

    @abstractmethod
    def critic_loss(self, batches: PublicBatches, draws: torch.Generator) -> tuple[Tensor, Figures]:
        """Loss of the critic on a fresh batch, a scalar, and figures to report."""

    @abstractmethod
    def generator_loss(self, batches: PublicBatches, draws: torch.Generator) -> tuple[Tensor, Figures]:
        """Loss of the generator on a fresh batch; weights of the critic get no gradient."""

    def public_batches(self, images: Tensor, target: LabelOracle | None, context: JobContext) -> PublicBatches:
        """What the losses are computed on; asked for once, before the first step and after a restart."""
        return PublicBatches(images, context.device)

    def begin_step(self, step: int) -> None:
        """Told before each step, counted from 0."""

    def fit(self, images: Tensor, *, target: LabelOracle | None = None, context: JobContext) -> None:
        self.cpu().draw_weights(context.generator("initialization"))  # whose draws are the CPU's
        self.to(context.device)
        adams = {name: self._adam(name, self.config.lr) for name in ("generator", "critic")}
        average = self._averaged() if self.config.ema else None
        # PublicBatches may ask the target, after a restart again; the count then becomes that of an undisturbed run.
        batches = self.public_batches(images, target, context)
        first = self._resume(context.resume(), adams, average, target)
        self.train()
        figures: Figures = {}
        for step in range(first, self.config.steps):
            figures = {**figures, **self._move(step, batches, adams, context.generator("step", step))}
            if average and "generator" in self._turns(step):
                average.update_parameters(self.generator)
            if (step + 1) % REPORT_EVERY == 0 or step + 1 == self.config.steps:
                self._report(step, figures, context)
            context.checkpoint(lambda done=step + 1: self._state(done, adams, average, target))  # type: ignore[misc]
        if average:
            self.generator.load_state_dict(average.module.state_dict())
        self.eval()

    def tune(
        self, images: Tensor, *, steps: int, lr: float, target: LabelOracle | None = None, context: JobContext
    ) -> None:
        """Go on fitting for some updates of the critic, in place, on other images. Shape: (N, C, H, W) uint8.

        `ema` does not act, since an average over few updates would be mostly of what was there before.
        """
        adams = {name: self._adam(name, lr) for name in ("generator", "critic")}
        batches = self.public_batches(images, target, context)
        self.train().requires_grad_(True)
        for step in range(steps):
            self._move(self.config.steps + step, batches, adams, context.generator("step", step))
        self.eval().requires_grad_(False)

    def _move(
        self, step: int, batches: PublicBatches, adams: Mapping[str, torch.optim.Adam], draws: torch.Generator
    ) -> Figures:
        """One update of whoever's turn it is."""
        self.begin_step(step)
        figures: Figures = {}
        for half in self._turns(step):
            move = self._step_critic if half == "critic" else self._step_generator
            figures = {**figures, **move(batches, adams[half], draws)}
        return figures

    def draw_latents(self, draws: torch.Generator, *, device: torch.device) -> Tensor:
        """A batch of standard normal latents. Shape: (batch_size, latent_size)."""
        return torch.randn(self.config.batch_size, self.latent_size, generator=draws).to(device)

    def _turns(self, step: int) -> tuple[str, ...]:
        """Who moves at a step, in order."""
        turn = 0 if self.generator_first else self.config.critic_steps - 1
        if step % self.config.critic_steps != turn:
            return ("critic",)
        return ("generator", "critic") if self.generator_first else ("critic", "generator")

    def _adam(self, name: str, lr: float) -> torch.optim.Adam:
        return torch.optim.Adam(getattr(self, name).parameters(), lr=lr, betas=self.config.betas)

    def _averaged(self) -> AveragedModel:
        """The mean of the generator's weights and statistics, which begins with those of its first update."""
        assert self.config.ema is not None
        return AveragedModel(self.generator, multi_avg_fn=get_ema_multi_avg_fn(self.config.ema), use_buffers=True)

    def _step_critic(self, batches: PublicBatches, adam: torch.optim.Adam, draws: torch.Generator) -> Figures:
        loss, figures = self.critic_loss(batches, draws)
        descend(loss, adam)
        return figures

    def _step_generator(self, batches: PublicBatches, adam: torch.optim.Adam, draws: torch.Generator) -> Figures:
        self.critic.requires_grad_(False)
        loss, figures = self.generator_loss(batches, draws)
        descend(loss, adam)
        self.critic.requires_grad_(True)
        return figures

    def _report(self, step: int, figures: Figures, context: JobContext) -> None:
        numbers = {name: own.item() for name, own in figures.items()}
        for name, number in numbers.items():
            if not math.isfinite(number):
                raise DivergedError(f"{name} became {number} at step {step + 1}: lower prior.lr.")
        context.report(step + 1, self.config.steps, numbers)

    def _state(
        self,
        step: int,
        adams: Mapping[str, torch.optim.Adam],
        average: AveragedModel | None,
        target: LabelOracle | None,
    ) -> State:
        slots = {
            name: {str(index): slot for index, slot in adam.state_dict()["state"].items()}
            for name, adam in adams.items()
        }
        asked = target.queries if target else 0
        averaged = average.state_dict() if average else {}
        return {"step": step, "queries": asked, "weights": self.state_dict(), "adam": slots, "average": averaged}

    def _resume(
        self,
        saved: State | None,
        adams: Mapping[str, torch.optim.Adam],
        average: AveragedModel | None,
        target: LabelOracle | None,
    ) -> int:
        if saved is None:
            return 0
        self.load_state_dict(saved["weights"])
        for name, adam in adams.items():
            slots = {int(index): slot for index, slot in saved["adam"][name].items()}
            adam.load_state_dict({**adam.state_dict(), "state": slots})
        if average:
            average.load_state_dict(saved["average"])
        if target:
            target.queries = saved["queries"]
        return int(saved["step"])


def descend(loss: Tensor, adam: torch.optim.Adam) -> None:
    """One step down a loss, on its gradient alone."""
    adam.zero_grad(set_to_none=True)
    loss.backward()
    adam.step()
