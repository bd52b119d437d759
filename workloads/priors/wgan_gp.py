"""The GMI generator and critic, fitted as a Wasserstein GAN with gradient penalty."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from workloads.checkpoints import State
from workloads.context import JobContext
from workloads.errors import ConfigError, DivergedError
from workloads.models.base import initialize
from workloads.priors.base import PRIORS, Prior, PriorConfig

Beta = Annotated[float, Field(ge=0, lt=1)]
REPORT_EVERY = 50  # critic steps


class WganGpConfig(PriorConfig):
    """Defaults are those of the authors' code, but for `steps`: theirs amount to 131,000."""

    kind: Literal["wgan_gp"] = "wgan_gp"
    latent_size: PositiveInt = 100
    width: PositiveInt = 64
    """Channels of the generator's last hidden and the critic's first layer; the other layers are multiples of it."""
    steps: PositiveInt = 6000
    """Updates of the critic."""
    critic_steps: PositiveInt = 5
    """Updates of the critic for each one of the generator."""
    batch_size: PositiveInt = 64
    lr: PositiveFloat = 2e-4
    betas: tuple[Beta, Beta] = (0.5, 0.999)
    gradient_penalty: NonNegativeFloat = 10.0
    seed: int = 0


@PRIORS.register(WganGpConfig)
class WganGp(Prior):
    """DCGAN-like generator with a WGAN-GP critic, at 32 or 64 pixels.

    At 64 pixels and 3 channels these are the 5,142,083 and 4,316,545 parameters of the authors' networks; at 32
    pixels the first doubling and its width are left out.

    Source: Zhang et al., "The Secret Revealer", CVPR 2020; Gulrajani et al., NeurIPS 2017, algorithm 1.
    """

    config: WganGpConfig

    def __init__(self, config: WganGpConfig, *, channels: int, image_size: int) -> None:
        super().__init__(config, channels=channels, image_size=image_size)
        if image_size not in (32, 64):
            raise ConfigError(
                f"wgan_gp makes images of 32 or 64 pixels, not {image_size}: set image_size to one of them."
            )
        self.latent_size = config.latent_size
        doublings = int(math.log2(image_size // 4))  # from 4 x 4
        widths = [config.width * 2**level for level in reversed(range(doublings))]
        self.generator = _generator(config.latent_size, widths, channels)
        self.critic = _critic(list(reversed(widths)), channels)

    def synthesize(self, latents: Tensor) -> Tensor:
        return self.generator(latents)

    def realism(self, images: Tensor) -> Tensor:
        return self.critic(images).flatten()

    def fit(self, images: Tensor, *, context: JobContext) -> None:
        initialize(self, context.generator("initialization"))
        self.train()
        adams = {
            name: torch.optim.Adam(network.parameters(), lr=self.config.lr, betas=self.config.betas)
            for name, network in (("generator", self.generator), ("critic", self.critic))
        }
        for step in range(self._resume(context.resume(), adams), self.config.steps):
            draws = context.generator("step", step)
            indices = torch.randint(len(images), (self.config.batch_size,), generator=draws)
            real = images[indices].float().div_(255).to(context.device)
            distance = self._step_critic(real, adams["critic"], draws)
            if (step + 1) % self.config.critic_steps == 0:
                self._step_generator(adams["generator"], draws, device=context.device)
            if (step + 1) % REPORT_EVERY == 0 or step + 1 == self.config.steps:
                self._report(step, distance.item(), context)
            context.checkpoint(lambda done=step + 1: self._state(done, adams))  # type: ignore[misc]
        self.eval()

    def _step_critic(self, real: Tensor, adam: torch.optim.Adam, draws: torch.Generator) -> Tensor:
        """One update of the critic; the estimated Wasserstein distance before it."""
        with torch.no_grad():
            fake = self.generator(self._latents(draws, device=real.device))
        distance = self.realism(real).mean() - self.realism(fake).mean()
        mix = torch.rand(len(real), 1, 1, 1, generator=draws).to(real.device)
        between = (real + mix * (fake - real)).requires_grad_(True)
        (slope,) = torch.autograd.grad(self.realism(between).sum(), between, create_graph=True)
        penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
        adam.zero_grad(set_to_none=True)
        (self.config.gradient_penalty * penalty - distance).backward()
        adam.step()
        return distance.detach()

    def _step_generator(self, adam: torch.optim.Adam, draws: torch.Generator, *, device: torch.device) -> None:
        adam.zero_grad(set_to_none=True)
        self.critic.requires_grad_(False)
        (-self.realism(self.generator(self._latents(draws, device=device))).mean()).backward()
        self.critic.requires_grad_(True)
        adam.step()

    def _latents(self, draws: torch.Generator, *, device: torch.device) -> Tensor:
        return torch.randn(self.config.batch_size, self.latent_size, generator=draws).to(device)

    def _report(self, step: int, distance: float, context: JobContext) -> None:
        if not math.isfinite(distance):
            raise DivergedError(f"the critic's distance became {distance} at step {step + 1}: lower prior.lr.")
        context.report(step + 1, self.config.steps, {"wasserstein_distance": distance})

    def _state(self, step: int, adams: dict[str, torch.optim.Adam]) -> State:
        slots = {
            name: {str(index): slot for index, slot in adam.state_dict()["state"].items()}
            for name, adam in adams.items()
        }
        return {"step": step, "weights": self.state_dict(), "adam": slots}

    def _resume(self, saved: State | None, adams: dict[str, torch.optim.Adam]) -> int:
        if saved is None:
            return 0
        self.load_state_dict(saved["weights"])
        for name, adam in adams.items():
            slots = {int(index): slot for index, slot in saved["adam"][name].items()}
            adam.load_state_dict({**adam.state_dict(), "state": slots})
        return saved["step"]


def _generator(latent_size: int, widths: list[int], channels: int) -> nn.Sequential:
    """(B, latent_size) to (B, channels, S, S) in [0, 1], S = 4 * 2^len(widths)."""
    first = widths[0]
    layers: list[nn.Module] = [
        nn.Linear(latent_size, first * 16, bias=False),
        nn.BatchNorm1d(first * 16),
        nn.ReLU(),
        nn.Unflatten(1, (first, 4, 4)),
    ]
    for before, after in itertools.pairwise(widths):
        layers += [
            nn.ConvTranspose2d(before, after, 5, stride=2, padding=2, output_padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
    layers += [nn.ConvTranspose2d(widths[-1], channels, 5, stride=2, padding=2, output_padding=1), nn.Sigmoid()]
    return nn.Sequential(*layers)


def _critic(widths: list[int], channels: int) -> nn.Sequential:
    """(B, channels, S, S) to (B, 1, 1, 1), S = 4 * 2^len(widths)."""
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 5, stride=2, padding=2), nn.LeakyReLU(0.2)]
    for before, after in itertools.pairwise(widths):
        layers += [
            nn.Conv2d(before, after, 5, stride=2, padding=2),
            nn.InstanceNorm2d(after, affine=True),
            nn.LeakyReLU(0.2),
        ]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4))
