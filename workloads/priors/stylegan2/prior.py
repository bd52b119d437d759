"""StyleGAN2 with adaptive augmentation, fitted on public images or read from a file of published weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor
from torch.nn import functional as F

from workloads.context import JobContext
from workloads.core.config import ACCEPTS_LISTS, BatchSize, Beta, Fraction, Location, Steps
from workloads.core.errors import ConfigError
from workloads.core.resampling import resize
from workloads.core.weights import WeightsFileConfig, load_weights, read_weights
from workloads.datasets.resident import on_device
from workloads.observation.oracles import LabelOracle
from workloads.priors.adversarial import (
    AdversarialConfig,
    AdversarialPrior,
    Loss,
    NetworkName,
    PublicBatches,
    adam,
)
from workloads.priors.base import PRIORS
from workloads.priors.recorded_updates import Scalars
from workloads.priors.staged import StagedPrior
from workloads.priors.stylegan2.adaptive_augmentation import AdaptiveAugmentation
from workloads.priors.stylegan2.layers import GROUP, draw_all
from workloads.priors.stylegan2.networks import Critic, Generator, Shape, widths
from workloads.priors.stylegan2.training import PathLengths, gradient_penalty, mixed_styles, move_average

TRAINED_ONLY = ("generator.", "augmentation.", "paths.")
"""Prefixes of the weights that only a prior fitted here has; files may lack them or hold them."""
CONVERTER = "python -m workloads.priors.stylegan2.convert"


class StyleGan2Config(WeightsFileConfig, AdversarialConfig):
    """Settings of StyleGAN2. Defaults follow the authors' code below 512 pixels, with the mapping of their published
    networks, except `steps`: theirs come to 780,000.
    """

    version: ClassVar[int] = 2
    kind: Literal["stylegan2"] = "stylegan2"
    weights: Annotated[str, Location()] = "none"
    """A .safetensors file of a trained network, as the converter of published networks writes it; `none` to fit one on
    public images."""
    resolution: PositiveInt | None = None
    """Side of the network's images in pixels, a power of two from 8 to 1024; that of the data if omitted. Where the two
    differ, images are resized."""
    crop: PositiveInt | None = None
    """Side in pixels of the central square that is used of each image, for example 800 of 1024 where the data shows
    faces closer; all of the image if omitted. Only with `weights`."""
    latent_size: PositiveInt = 512
    """Numbers in one latent."""
    style_size: PositiveInt = 512
    """Numbers in one style."""
    mapping_layers: PositiveInt = 8
    """Linear layers between latents and styles."""
    channel_base: PositiveInt = 16384
    """Maps of S pixels have channel_base / S channels, at most `channel_max`. Published networks of 512 pixels and more
    have 32768."""
    channel_max: PositiveInt = 512
    """Most channels of any map."""
    conv_clamp: PositiveFloat | None = None
    """Outputs of convolutions are clipped to plus and minus this; null for no clipping. Published networks have 256."""
    judge: bool = True
    """Whether there is a critic, which scores realism; set it to false for a file of weights without one."""
    steps: Steps = 50_000
    """Updates of the critic."""
    critic_steps: PositiveInt = 1
    """Updates of the critic for each update of the generator."""
    batch_size: BatchSize = 32
    """Images per update, real and generated each. Above 4, a multiple of 4."""
    lr: PositiveFloat = 0.0025
    """Learning rate of Adam, for both networks, before it is lowered for lazy regularisation."""
    betas: Annotated[tuple[Beta, Beta], ACCEPTS_LISTS] = (0.0, 0.99)
    """Decay rates of Adam's two moving averages, for both networks."""
    r1_gamma: NonNegativeFloat | None = None
    """Weight of the R1 penalty on the critic's gradients; 0.0002 x resolution^2 / batch_size if omitted."""
    r1_every: PositiveInt = 16
    """Steps between two R1 penalties."""
    path_length_weight: NonNegativeFloat = 2.0
    """Weight of the generator's path length penalty."""
    path_length_every: PositiveInt = 4
    """Steps between two path length penalties."""
    style_mixing: Fraction = 0.9
    """Probability that a batch uses the styles of two latents instead of one."""
    ema_half_life: PositiveFloat = 10_000
    """Images after which a weight counts half in the moving average that serves as the prior."""
    augmentation_target: Fraction | None = 0.6
    """Mean sign of the critic's logits of real images that adaptive augmentation keeps to; null for no augmentation."""
    augmentation_images: PositiveInt = 500_000
    """Images over which the probability of augmentation can rise from 0 to 1."""

    @property
    def revision(self) -> int:
        """Raised where images are resized, whose colours have other last bits since they come from matrix products."""
        return self.version + (self.resolution is not None)

    @classmethod
    def identify_weights(cls, weights: str) -> str:
        """The digest of the file; refuses pickles and names the converter."""
        file = Path(weights)
        if file.suffix == ".pkl":
            raise ConfigError(f"weights: {file} is a pickle, which can run code: convert it first, by {CONVERTER}")
        if not file.is_file():
            raise ConfigError(f"weights: no file {file}: give none, or one that {CONVERTER} made")
        return super().identify_weights(weights)

    @model_validator(mode="after")
    def _fits_together(self) -> StyleGan2Config:
        if self.weights == "none" and not self.judge:
            raise ConfigError("judge: fitting needs a critic: leave it at true, or give weights")
        if self.batch_size > GROUP and self.batch_size % GROUP:
            raise ConfigError(
                f"batch_size: above {GROUP} it must be a multiple of {GROUP}, because the critic compares groups, "
                f"got {self.batch_size}: take {self.batch_size // GROUP * GROUP}"
            )
        return self

    @property
    def fitted(self) -> bool:
        """Whether no file of weights is named."""
        return self.weights == "none"


@PRIORS.register(StyleGan2Config)
class StyleGan2(StagedPrior, AdversarialPrior[PublicBatches]):
    """Style-based generator: the average of its weights over a fit with adaptive augmentation, or published weights.

    Differences from the authors' code: everything is fp32; the R1 penalty is taken at the augmented images, not through
    the augmentation, which has no second derivative here; the augmentations are a subset; a regularisation step draws
    its own batch.

    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020; "Training Generative
    Adversarial Networks with Limited Data", NeurIPS 2020.
    """

    config: StyleGan2Config
    generator: Generator
    critic: Critic

    def __init__(self, config: StyleGan2Config, *, channels: int, image_size: int, classes: int) -> None:
        super().__init__(config, channels=channels, image_size=image_size, classes=classes)
        shape = shape_of(config, channels, config.resolution or image_size)
        self.latent_size, self.style_size, self.resolution = config.latent_size, config.style_size, shape.size
        self.average = Generator(shape)
        self.layers, self.blocks = self.average.layers, len(self.average.blocks)
        if config.judge:
            self.critic = Critic(shape)
        if config.fitted:
            self.generator = Generator(shape)
            self.paths = PathLengths()
            self.augmentation = _augmentation(config)

    def styles(self, latents: Tensor, *, truncation: float = 1.0, cutoff: int | None = None) -> Tensor:
        """Styles of latents, the first `cutoff` pulled to their mean."""
        styles = self.repeat_style(self.average.mapping(latents))
        if truncation == 1:
            return styles  # the same bits
        mean = self.average.mapping.mean
        truncated = mean + truncation * (styles[:, :cutoff] - mean)
        return torch.cat((truncated, styles[:, truncated.shape[1] :]), 1)

    def run_blocks(
        self,
        styles: Tensor,
        features: Tensor | None = None,
        image: Tensor | None = None,
        *,
        first: int = 0,
        last: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run the averaged generator's blocks."""
        return self.average.run(styles, features, image, first=first, last=last)

    def to_data_image(self, image: Tensor) -> Tensor:
        """Crop and resize to the data set's size."""
        if self.config.crop:
            edge = (self.resolution - self.config.crop) // 2
            image = image[..., edge : edge + self.config.crop, edge : edge + self.config.crop]
        return super().to_data_image(_resized(image, self.image_size))

    @property
    def scores_realism(self) -> bool:
        """Whether there is a critic and it sees whole images: it cannot score a crop."""
        return self.config.judge and self.config.crop is None

    def realism(self, images: Tensor) -> Tensor:
        """The critic's logit that each image is real, independent of the other images of the batch."""
        if not self.scores_realism:
            return super().realism(images)
        return self.critic(2 * _resized(images, self.resolution) - 1)

    def fit(self, images: Tensor, *, target: LabelOracle | None = None, context: JobContext) -> None:
        """Fit on the images, or load the file of weights if one is set."""
        if self.config.fitted:
            super().fit(images, target=target, context=context)
        else:
            load_weights(self, read_weights(Path(self.config.weights)), source=self.config.weights, skip=TRAINED_ONLY)

    def draw_weights(self, draws: torch.Generator) -> None:
        """Draw generator and critic; the average begins as the generator."""
        draw_all(self.generator, draws)
        draw_all(self.critic, draws)
        self.average.load_state_dict(self.generator.state_dict())

    def public_batches(self, images: Tensor, target: LabelOracle | None, context: JobContext) -> PublicBatches:
        """Public images alone."""
        return PublicBatches(on_device(images, context.device), context.device)

    def losses(self, step: int) -> Iterator[tuple[NetworkName, Loss[PublicBatches]]]:
        """Adds each network's penalty at the steps at which it is due."""
        for name, loss in super().losses(step):
            yield name, loss
            if name == "critic" and self._gamma and step % self.config.r1_every == 0:
                yield name, self.gradient_penalty_loss
            if name == "generator" and self.config.path_length_weight and step % self.config.path_length_every == 0:
                yield name, self.path_length_loss

    def end_step(self, step: int) -> None:
        """Move the average of the generator, where it was updated."""
        if "generator" in self._networks_to_update(step):
            batch, half_life = self.config.batch_size, self.config.ema_half_life
            move_average(self.average, self.generator, seen=step * batch, batch=batch, half_life=half_life)

    def critic_loss(self, batches: PublicBatches, draws: torch.Generator) -> tuple[Tensor, Scalars]:
        """Cross-entropy of telling augmented real images from augmented generated ones."""
        real = self._augmented(self._real(batches, draws), draws)
        with torch.no_grad():
            fake = self._augmented(self._generate(self.config.batch_size, draws)[0], draws)
        of_real, of_fake = self.critic(real), self.critic(fake)
        loss = F.softplus(of_fake).mean() + F.softplus(-of_real).mean()
        scalars = {"critic_loss": loss.detach()}
        if self.augmentation is not None:
            self.augmentation.adapt(of_real.detach())
            scalars["augmentation"] = self.augmentation.probability.clone()
        return loss, scalars

    def generator_loss(self, batches: PublicBatches, draws: torch.Generator) -> tuple[Tensor, Scalars]:
        """Non-saturating loss: cross-entropy of the critic taking augmented generated images for real."""
        fake, _ = self._generate(self.config.batch_size, draws)
        loss = F.softplus(-self.critic(self._augmented(fake, draws))).mean()
        return loss, {"generator_loss": loss.detach()}

    def gradient_penalty_loss(self, batches: PublicBatches, draws: torch.Generator) -> tuple[Tensor, Scalars]:
        """The critic's R1 penalty, multiplied by the number of steps it stands for."""
        real = self._augmented(self._real(batches, draws), draws).requires_grad_(True)
        return self._gamma / 2 * gradient_penalty(self.critic(real), real) * self.config.r1_every, {}

    def path_length_loss(self, batches: PublicBatches, draws: torch.Generator) -> tuple[Tensor, Scalars]:
        """The generator's path length penalty on half a batch, multiplied by the number of steps it stands for."""
        fake, styles = self._generate(max(self.config.batch_size // 2, 1), draws)
        penalty = self.paths.penalty(fake, styles, draws)
        return self.config.path_length_weight * penalty * self.config.path_length_every, {}

    def _adam(self, name: NetworkName, lr: float) -> torch.optim.Adam:
        """Adam with a rate and betas lowered so that the extra regularisation steps do not speed up learning.

        Source: Karras et al., CVPR 2020, appendix B (lazy regularisation).
        """
        if name == "critic":
            interval = self.config.r1_every if self._gamma else 0
        else:
            interval = self.config.path_length_every if self.config.path_length_weight else 0
        share = interval / (interval + 1) if interval else 1.0
        first, second = (beta**share for beta in self.config.betas)
        return adam(self.get_submodule(name), lr=lr * share, betas=(first, second))

    @property
    def _gamma(self) -> float:
        """Weight of the R1 penalty."""
        gamma = self.config.r1_gamma
        return 0.0002 * self.resolution**2 / self.config.batch_size if gamma is None else gamma

    def _real(self, batches: PublicBatches, draws: torch.Generator) -> Tensor:
        """Draw a batch of public images at the network's size, in [-1, 1]."""
        images = batches.draw(self.config.batch_size, draws)
        return 2 * _resized(images, self.resolution) - 1

    def _generate(self, count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Make images with the generator that is being fitted, with fresh noise. Returns them and their styles."""
        constant = self.generator.constant
        latents = torch.randn(2, count, self.latent_size, generator=draws, device=constant.device).to(constant)
        styles = mixed_styles(self.generator, latents, mixing=self.config.style_mixing, draws=draws)
        return self.generator.run(styles, draws=draws)[1], styles

    def _augmented(self, images: Tensor, draws: torch.Generator) -> Tensor:
        return images if self.augmentation is None else self.augmentation(images, draws)


def shape_of(config: StyleGan2Config, channels: int, size: int) -> Shape:
    """The shape of networks for images of `size` pixels.

    Raises:
        ConfigError: if no network can have this size, or `crop` does not fit.
    """
    if config.crop and (config.fitted or config.crop > size):
        raise ConfigError(
            f"crop: {config.crop} of {size} pixels: only images of published weights can be cropped, to at most their "
            "size: leave it out, or give weights and a smaller crop."
        )
    return Shape(
        channels=channels,
        size=size,
        latent_size=config.latent_size,
        style_size=config.style_size,
        mapping_layers=config.mapping_layers,
        widths=widths(size, base=config.channel_base, most=config.channel_max),
        clamp=config.conv_clamp,
    )


def _resized(images: Tensor, size: int) -> Tensor:
    if images.shape[-1] == size:
        return images
    return resize(images, (size, size), antialias=True)


def _augmentation(config: StyleGan2Config) -> AdaptiveAugmentation | None:
    if config.augmentation_target is None:
        return None
    return AdaptiveAugmentation(target=config.augmentation_target, pace=1 / config.augmentation_images)
