"""The loop that fits a generator against a critic: steps, checkpoints, progress. Priors differ in their losses."""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Generic, Literal, TypeVar

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.config import Addition, BatchSize, Beta, Steps
from workloads.core.cuda_graphs import CudaGraphs
from workloads.core.errors import DivergedError
from workloads.core.numerics import Precision, arithmetic
from workloads.observation.oracles import LabelOracle
from workloads.priors.base import Prior, PriorConfig
from workloads.priors.recorded_updates import RecordedUpdates, Scalars

REPORT_EVERY = 50  # critic steps
GRAPHS = "cuda"  # type of the devices on which updates are recorded
NetworkName = Literal["generator", "critic"]
"""One of the two networks, by the name of its attribute."""


class AdversarialConfig(PriorConfig):
    """How a generator is fitted against a critic."""

    latent_size: PositiveInt = 100
    """Numbers in one latent."""
    steps: Steps = 6000
    """Updates of the critic."""
    critic_steps: PositiveInt = 5
    """Updates of the critic for each update of the generator."""
    batch_size: BatchSize = 64
    """Images per update, real and generated each."""
    lr: PositiveFloat = 2e-4
    """Learning rate of Adam, for both networks."""
    betas: tuple[Beta, Beta] = (0.5, 0.999)
    """Decay rates of Adam's two moving averages, for both networks."""
    precision: Annotated[Precision, Addition()] = "fp32"
    """Precision that both networks compute in while they are fitted. `tf32` and `bf16` are faster on recent GPUs."""
    seed: int = 0
    """Repeats the fit with other random draws."""

    @property
    def average_decay(self) -> float | None:
        """Decay of a moving average of the generator that takes its place after the fit; None for no average."""
        return None


class AveragedConfig(AdversarialConfig):
    """How a generator is fitted against a critic, and whether its weights are averaged over the fit."""

    ema: Annotated[float | None, Field(gt=0, lt=1), Addition()] = None
    """Decay of a moving average of the generator over its updates, which replaces the generator after the fit. The
    original papers have none; fits of a few thousand steps gain most from it."""

    @property
    def average_decay(self) -> float | None:
        """The decay that the settings name."""
        return self.ema


@dataclass(frozen=True)
class PublicBatches:
    """Batches of the public images that a prior is fitted on."""

    images: Tensor
    """On the device, or on the host where they do not fit there. Shape: (N, C, H, W) uint8."""
    device: torch.device
    """Where batches are put."""

    def draw(self, count: int, draws: torch.Generator) -> Tensor:
        """Draw images with replacement. Shape: (count, C, H, W) float in [0, 1]."""
        return self.images_at(torch.randint(len(self.images), (count,), generator=draws, device=self.device))

    def images_at(self, indices: Tensor) -> Tensor:
        """Take the images at these indices. Shape: (B,) int64 to (B, C, H, W) float in [0, 1]."""
        return self.images[indices.to(self.images.device)].to(self.device).float().div_(255)


Batches = TypeVar("Batches", bound=PublicBatches)
Loss = Callable[[Batches, torch.Generator], tuple[Tensor, Scalars]]
"""Draws a batch and computes a loss on it, a scalar, and scalars to report."""


@dataclass(frozen=True)
class _Fit(Generic[Batches]):
    """What the updates of one fit have in common."""

    batches: Batches
    adams: Mapping[NetworkName, torch.optim.Adam]
    draws: torch.Generator
    recorded: RecordedUpdates | None
    """None where updates are computed one operation after another."""


class AdversarialPrior(Prior, Generic[Batches]):
    """A generator fitted against a critic, each by its own Adam. A subclass sets both networks and their losses."""

    generator_first: ClassVar[bool] = False
    """Whether the generator is updated before the critic's steps rather than after them."""
    config: AdversarialConfig
    generator: nn.Module
    critic: nn.Module
    _forward_pass: torch.autocast
    """Entered around the losses of a step, not around their gradients."""

    @abstractmethod
    def public_batches(self, images: Tensor, target: LabelOracle | None, context: JobContext) -> Batches:
        """Make what the losses draw their batches from. Called once, before the first step and after a restart.

        Shape: images (N, C, H, W) uint8.
        """

    @abstractmethod
    def critic_loss(self, batches: Batches, draws: torch.Generator) -> tuple[Tensor, Scalars]:
        """Compute the critic's loss on a fresh batch, a scalar, and scalars to report."""

    @abstractmethod
    def generator_loss(self, batches: Batches, draws: torch.Generator) -> tuple[Tensor, Scalars]:
        """Compute the generator's loss on a fresh batch, a scalar; the critic's weights get no gradient."""

    def begin_step(self, step: int) -> None:
        """Do what is due before a step; steps count from 0."""

    def end_step(self, step: int) -> None:
        """Do what is due after a step."""

    @property
    def phase(self) -> Hashable:
        """What the operations of a loss depend on, beside its name. On GPUs an update is recorded once in each phase,
        and repeated, so a loss may not depend on any other Python number."""
        return None

    def losses(self, step: int) -> Iterator[tuple[NetworkName, Loss[Batches]]]:
        """The losses that are descended on at a step, in order, each with the network that it updates."""
        for name in self._networks_to_update(step):
            yield name, self.critic_loss if name == "critic" else self.generator_loss

    def fit(self, images: Tensor, *, target: LabelOracle | None = None, context: JobContext) -> None:
        """Critic and generator by turns, on batches of public images."""
        self.cpu().draw_weights(context.generator("initialization"))  # generators of the context draw on the CPU
        self.to(context.device)
        adams = self._adams(self.config.lr)
        average = self._new_average()
        # This may query the target, again after a restart; resuming then sets the count to that of one undisturbed run.
        batches = self.public_batches(images, target, context)
        first = self._resume(context.resume(), adams, average, target)
        self.train()
        scalars: Scalars = {}
        fit = _new_fit(batches, adams, target, context)
        for step in range(first, self.config.steps):
            context.rewind(fit.draws, "step", step)
            scalars = {**scalars, **self._update(step, fit)}
            if average and "generator" in self._networks_to_update(step):
                average.update_parameters(self.generator)
            if (step + 1) % REPORT_EVERY == 0 or step + 1 == self.config.steps:
                self._report(step, scalars, context)
            context.checkpoint(functools.partial(self._state, step + 1, adams, average, target))
        if average:
            self.generator.load_state_dict(average.module.state_dict())
        self.eval()

    def tune(
        self, images: Tensor, *, steps: int, lr: float, target: LabelOracle | None = None, context: JobContext
    ) -> None:
        """Continue fitting on other images for `steps` updates of the critic, in place. Shape: (N, C, H, W) uint8.

        Weights are not averaged: over few updates, an average would mostly hold the weights from before.
        """
        fit = _new_fit(self.public_batches(images, target, context), self._adams(lr), target, context)
        self.train().requires_grad_(True)
        for step in range(steps):
            context.rewind(fit.draws, "step", step)
            self._update(self.config.steps + step, fit)
        self.eval().requires_grad_(False)

    def draw_latents(self, draws: torch.Generator, *, device: torch.device) -> Tensor:
        """Draw a batch of standard normal latents. Shape: (batch_size, latent_size)."""
        return torch.randn(self.config.batch_size, self.latent_size, generator=draws, device=device)

    def _update(self, step: int, fit: _Fit[Batches]) -> Scalars:
        """Update the networks whose turn it is."""
        self.begin_step(step)
        scalars: Scalars = {}
        with arithmetic(self.config.precision, fit.batches.device) as self._forward_pass:
            for name, loss in self.losses(step):
                update = functools.partial(self._descend, name, loss, fit)
                kind = loss.__name__, self.phase
                scalars = {**scalars, **(fit.recorded.take(kind, update) if fit.recorded else update())}
        self.critic.requires_grad_(True)
        self.end_step(step)
        return scalars

    def _descend(self, name: NetworkName, loss: Loss[Batches], fit: _Fit[Batches]) -> Scalars:
        """Take one step of a network's optimiser; the critic's weights get no gradient of the generator's losses."""
        self.critic.requires_grad_(name == "critic")
        with self._forward_pass:
            value, scalars = loss(fit.batches, fit.draws)
        descend(value, fit.adams[name])
        return scalars

    def _networks_to_update(self, step: int) -> tuple[NetworkName, ...]:
        """Which networks are updated at a step, in order."""
        turn = 0 if self.generator_first else self.config.critic_steps - 1
        if step % self.config.critic_steps != turn:
            return ("critic",)
        return ("generator", "critic") if self.generator_first else ("critic", "generator")

    def _adams(self, lr: float) -> dict[NetworkName, torch.optim.Adam]:
        return {"generator": self._adam("generator", lr), "critic": self._adam("critic", lr)}

    def _adam(self, name: NetworkName, lr: float) -> torch.optim.Adam:
        return adam(self.get_submodule(name), lr=lr, betas=self.config.betas)

    def _new_average(self) -> AveragedModel | None:
        """An average of the generator's weights and statistics; the first update fills it."""
        decay = self.config.average_decay
        if not decay:
            return None
        return AveragedModel(self.generator, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)

    def _report(self, step: int, scalars: Scalars, context: JobContext) -> None:
        numbers = {name: scalar.item() for name, scalar in scalars.items()}
        for name, number in numbers.items():
            if not math.isfinite(number):
                raise DivergedError(f"{name} became {number} at step {step + 1}: lower prior.lr.")
        context.report(step + 1, self.config.steps, numbers)

    def _state(
        self,
        step: int,
        adams: Mapping[NetworkName, torch.optim.Adam],
        average: AveragedModel | None,
        target: LabelOracle | None,
    ) -> State:
        slots = {
            name: {str(index): slot for index, slot in adam.state_dict()["state"].items()}
            for name, adam in adams.items()
        }
        queries = target.queries if target else 0
        averaged = average.state_dict() if average else {}
        return {"step": step, "queries": queries, "weights": self.state_dict(), "adam": slots, "average": averaged}

    def _resume(
        self,
        saved: State | None,
        adams: Mapping[NetworkName, torch.optim.Adam],
        average: AveragedModel | None,
        target: LabelOracle | None,
    ) -> int:
        """Take over a saved state, if there is one. Returns the step to go on with."""
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


def _new_fit(
    batches: Batches,
    adams: Mapping[NetworkName, torch.optim.Adam],
    target: LabelOracle | None,
    context: JobContext,
) -> _Fit[Batches]:
    """A fit whose updates are recorded where the device can, and the images lie there."""
    draws, device = context.device_generator(), batches.images.device
    if device.type != GRAPHS:
        return _Fit(batches, adams, draws, recorded=None)
    return _Fit(batches, adams, draws, RecordedUpdates(CudaGraphs(device), draws=draws, target=target))


def adam(network: nn.Module, *, lr: float, betas: tuple[float, float]) -> torch.optim.Adam:
    """Adam for the weights of a network; on a GPU one kernel a step, which can be recorded."""
    weights = list(network.parameters())
    on_gpu = weights[0].is_cuda
    return torch.optim.Adam(weights, lr=lr, betas=betas, fused=on_gpu or None, capturable=on_gpu)


def descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Take one step of an optimiser down this loss, with gradients of nothing else."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
