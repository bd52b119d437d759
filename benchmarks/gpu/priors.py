"""Steps of fitting priors: how long they take and how busy the card is, beside the bare passes of their networks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.gpu.card import BusyMeter, by_torch_defaults
from benchmarks.gpu.context import unstored_context
from benchmarks.gpu.rows import Row, Size
from benchmarks.timing import Laps, Work, medians
from workloads.context import Progress
from workloads.core.numerics import Precision, arithmetic, deterministic
from workloads.core.randomness import generator
from workloads.priors.adversarial import REPORT_EVERY, AdversarialConfig, AdversarialPrior, descend
from workloads.priors.base import PRIORS
from workloads.priors.stylegan2.prior import StyleGan2, StyleGan2Config
from workloads.priors.wgan_gp import WganGpConfig

PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16")
CRITIC_STEPS, MINUTES = 30_000, 10.0
"""A fit of WGAN-GP with so many steps is to take at most so long."""


@dataclass(frozen=True)
class Case:
    """A prior at a size."""

    config: AdversarialConfig
    side: int
    """Height and width of an image in pixels."""
    laps: int
    """Stretches of steps, between two reports, that are timed."""
    images: int = 2048
    """Public images."""


TINY_STYLES: dict[str, Any] = {
    **{"style_size": 4, "latent_size": 4, "mapping_layers": 1, "channel_base": 16, "channel_max": 2},
    **{"augmentation_target": None, "batch_size": 2},
}
CASES: dict[Size, tuple[Case, Case]] = {
    "full": (Case(WganGpConfig(), 64, laps=4), Case(StyleGan2Config(), 64, laps=1)),
    "tiny": (
        Case(WganGpConfig(width=2, latent_size=4, batch_size=2, critic_steps=2), 32, laps=1, images=4),
        Case(StyleGan2Config(**TINY_STYLES), 8, laps=1, images=4),
    ),
}


def rows(size: Size, device: torch.device) -> Iterator[Row]:
    """WGAN-GP at 64 pixels in every precision, then StyleGAN2 where GPUs have tensor cores for it."""
    wgan, stylegan = CASES[size]
    for precision in PRECISIONS:
        seconds, busy = _measured(_in_precision(wgan, precision), size, device)
        name, details = f"wgan_gp, {precision}", _milliseconds(seconds)
        yield Row("priors", f"{name}: share of the time the GPU works", busy, "", at_least=0.95)
        cost = seconds["ours"] / seconds["bare"]
        yield Row("priors", f"{name}: recorded step over bare passes", cost, "", details=details)
        minutes = CRITIC_STEPS * seconds["ours"] / 60
        yield Row("priors", f"{name}: {CRITIC_STEPS} critic steps", minutes, "min", at_most=MINUTES, details=details)
    for precision in PRECISIONS[1:]:
        seconds, busy = _measured(_in_precision(stylegan, precision), size, device)
        details = {**_milliseconds(seconds), "busy": busy}
        cost = seconds["ours"] / seconds["bare"]
        name = f"stylegan2, {precision}: recorded step over bare passes"
        yield Row("priors", name, cost, "", at_most=1.1, details=details)


def _in_precision(case: Case, precision: Precision) -> Case:
    return replace(case, config=case.config.model_copy(update={"precision": precision}))


def _milliseconds(seconds: dict[str, float]) -> dict[str, float | None]:
    return {f"{name}_ms": round(1000 * value, 3) for name, value in seconds.items()}


def _measured(case: Case, size: Size, device: torch.device) -> tuple[dict[str, float], float | None]:
    """Median seconds of a critic step, with the generator's share of steps, and how busy the GPU was."""
    critic_steps = case.config.critic_steps
    cycles = REPORT_EVERY // critic_steps if size == "full" else 1  # a fit reports at its end as well
    bare = by_torch_defaults(_bare(case, cycles, device))
    laps = Laps({"bare": bare}, steps=cycles * critic_steps, device=device)
    _fit(case, REPORT_EVERY + case.laps * cycles * critic_steps, device, laps)
    busy = BusyMeter(device)
    if device.type == "cuda":
        _fit(case, 2 * REPORT_EVERY, device, busy)
    return medians(laps.times), busy.share


def _prior(case: Case, *, steps: int) -> AdversarialPrior[Any]:
    config = case.config.model_copy(update={"steps": steps})
    prior = PRIORS.build(config, channels=3, image_size=case.side, classes=2)
    assert isinstance(prior, AdversarialPrior)
    return prior


def _fit(case: Case, steps: int, device: torch.device, on_progress: Callable[[Progress], None]) -> None:
    """Fit as a job does."""
    shape = (case.images, 3, case.side, case.side)
    images = torch.randint(256, shape, generator=generator("benchmark", "public"), dtype=torch.uint8)
    with deterministic(device):
        _prior(case, steps=steps).fit(images, context=unstored_context(device, on_progress))


def _bare(case: Case, cycles: int, device: torch.device) -> Work:
    """Make some cycles of nothing but passes and optimiser steps: those of the critic, then one of the generator."""
    prior = _prior(case, steps=1)
    prior.draw_weights(generator("benchmark", "weights"))
    prior.train().to(device)
    passes: _Passes = _StylePasses(prior) if isinstance(prior, StyleGan2) else _WganPasses(prior)
    critic, maker = (torch.optim.Adam(network.parameters()) for network in (prior.critic, prior.generator))
    real = torch.rand(case.config.batch_size, 3, case.side, case.side, device=device)
    latents = torch.randn(case.config.batch_size, prior.latent_size, device=device)

    def run() -> None:
        with arithmetic(case.config.precision, device) as forward:
            for _ in range(cycles):
                for _ in range(case.config.critic_steps):
                    descend_on(passes.of_critic(real, latents), critic, forward)
                prior.critic.requires_grad_(False)
                descend_on(passes.of_generator(latents), maker, forward)
                prior.critic.requires_grad_(True)

    return run


def descend_on(losses: Iterator[Tensor], optimizer: torch.optim.Optimizer, forward: torch.autocast) -> None:
    """Take a step down each loss, which is computed under `forward`, its gradients not."""
    while True:
        with forward:
            loss = next(losses, None)
        if loss is None:
            return
        descend(loss, optimizer)


class _Passes(Protocol):
    """The losses of a prior's update, one for each step of an optimiser, with all of their passes and no draws."""

    def of_critic(self, real: Tensor, latents: Tensor) -> Iterator[Tensor]: ...

    def of_generator(self, latents: Tensor) -> Iterator[Tensor]: ...


class _WganPasses:
    def __init__(self, prior: AdversarialPrior[Any]) -> None:
        self._prior = prior

    def of_critic(self, real: Tensor, latents: Tensor) -> Iterator[Tensor]:
        critic = self._prior.critic
        with torch.no_grad():
            fake = self._prior.generator(latents)
        mixed = ((real + fake) / 2).requires_grad_(True)
        (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
        yield critic(fake).mean() - critic(real).mean() + (slope.flatten(1).norm(dim=1) - 1).square().mean()

    def of_generator(self, latents: Tensor) -> Iterator[Tensor]:
        yield -self._prior.critic(self._prior.generator(latents)).mean()


class _StylePasses:
    def __init__(self, prior: StyleGan2) -> None:
        self._critic, self._generator, self._config = prior.critic, prior.generator, prior.config
        self._critic_steps, self._generator_steps = itertools.count(), itertools.count()

    def of_critic(self, real: Tensor, latents: Tensor) -> Iterator[Tensor]:
        with torch.no_grad():
            fake, _ = self._images(latents)
        yield F.softplus(self._critic(fake)).mean() + F.softplus(-self._critic(real)).mean()
        if next(self._critic_steps) % self._config.r1_every == 0:
            seen = real.clone().requires_grad_(True)
            (slope,) = torch.autograd.grad(self._critic(seen).sum(), seen, create_graph=True)
            yield slope.square().sum()

    def of_generator(self, latents: Tensor) -> Iterator[Tensor]:
        yield F.softplus(-self._critic(self._images(latents)[0])).mean()
        if next(self._generator_steps) % self._config.path_length_every == 0:
            images, styles = self._images(latents[: max(len(latents) // 2, 1)])
            noise = torch.randn_like(images)
            (slope,) = torch.autograd.grad((images * noise).sum(), styles, create_graph=True)
            yield slope.square().sum()

    def _images(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        styles = self._generator.mapping(latents)[:, None].expand(-1, self._generator.layers, -1)
        return self._generator.run(styles)[1], styles
