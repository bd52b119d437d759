"""StyleGAN2 with adaptive augmentation, fitted on public images or read from a published file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor
from torch.nn import functional as F

from workloads.context import JobContext
from workloads.core.config import ACCEPTS_LISTS, Fraction, Location
from workloads.core.errors import ConfigError
from workloads.core.weights import WeightsFileConfig, load_weights, read_weights
from workloads.observation.oracles import LabelOracle
from workloads.priors.adversarial import AdversarialConfig, AdversarialPrior, Beta, Figures, PublicBatches, descend
from workloads.priors.base import PRIORS
from workloads.priors.staged import StagedPrior
from workloads.priors.stylegan2.adaptive_augmentation import AdaptiveAugmentation
from workloads.priors.stylegan2.layers import GROUP, draw_all
from workloads.priors.stylegan2.networks import Critic, Generator, Shape, widths
from workloads.priors.stylegan2.training import PathLengths, mixed_styles, move_average, slope_penalty

TRAINED_ONLY = ("generator.", "augmentation.", "paths.")
"""Beginnings of the names of what a prior that is read from a file does not have."""
CONVERTER = "python -m workloads.priors.stylegan2.convert"


class StyleGan2Config(WeightsFileConfig, AdversarialConfig):
    """Defaults are those of the authors' code below 512 pixels, with the mapping of its published networks, but for
    `steps`: theirs amount to 780,000.
    """

    kind: Literal["stylegan2"] = "stylegan2"
    weights: Annotated[str, Location()] = "none"
    """A .safetensors file of a network that is trained already, as the converter of published ones writes it."""
    resolution: PositiveInt | None = None
    """Side of the images the networks work on; the data's where omitted. Others are resized on the way."""
    crop: PositiveInt | None = None
    """Show the central square of so many pixels only, as 800 of 1024 for faces that data shows closer."""
    latent_size: PositiveInt = 512
    style_size: PositiveInt = 512
    mapping_layers: PositiveInt = 8
    channel_base: PositiveInt = 16384
    """Channels at S pixels are this over S, and `channel_max` at most; published networks from 512 pixels on: 32768."""
    channel_max: PositiveInt = 512
    conv_clamp: PositiveFloat | None = None
    """Bound of what a convolution puts out; published networks: 256."""
    judge: bool = True
    """Whether there is a critic; a file may lack it."""
    steps: PositiveInt = 50_000
    critic_steps: PositiveInt = 1
    batch_size: PositiveInt = 32
    lr: PositiveFloat = 0.0025
    betas: Annotated[tuple[Beta, Beta], ACCEPTS_LISTS] = (0.0, 0.99)
    r1_gamma: NonNegativeFloat | None = None
    """Weight of the penalty on the critic's slopes; 0.0002 x resolution^2 / batch_size where omitted."""
    r1_every: PositiveInt = 16
    path_length_weight: NonNegativeFloat = 2.0
    path_length_every: PositiveInt = 4
    style_mixing: Fraction = 0.9
    ema: ClassVar[None] = None  # type: ignore[misc]  # its average is by images, below
    ema_half_life: PositiveFloat = 10_000
    """Images after which a weight counts half in the average that is used."""
    augmentation_target: Fraction | None = 0.6
    """Mean sign of the critic's values of real images that augmentation aims at; none is done where null."""
    augmentation_images: PositiveInt = 500_000
    """Images over which augmentation can go from never to always."""

    @classmethod
    def identify_weights(cls, weights: str) -> str:
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
                f"batch_size: the critic looks at groups of {GROUP}, of which {self.batch_size} is no multiple: "
                f"take {self.batch_size // GROUP * GROUP}"
            )
        return self

    @property
    def fitted(self) -> bool:
        return self.weights == "none"


@PRIORS.register(StyleGan2Config)
class StyleGan2(StagedPrior, AdversarialPrior):
    """Style-based generator, the average of its weights over a fit with adaptive augmentation, or a published one.

    Differs from the authors' code in these: all is fp32; the penalty on slopes is taken at the images as the critic
    sees them, not through their augmentation, which has no second derivative here; the augmentations are a subset; a
    regularised step draws a batch of its own.

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
        styles = self.repeat_style(self.average.mapping(latents))
        if truncation == 1:
            return styles  # to the bit
        mean = self.average.mapping.mean
        pulled = mean + truncation * (styles[:, :cutoff] - mean)
        return torch.cat((pulled, styles[:, pulled.shape[1] :]), 1)

    def run_blocks(
        self,
        styles: Tensor,
        features: Tensor | None = None,
        image: Tensor | None = None,
        *,
        first: int = 0,
        last: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        return self.average.run(styles, features, image, first=first, last=last)

    def to_data_image(self, image: Tensor) -> Tensor:
        if self.config.crop:
            edge = (self.resolution - self.config.crop) // 2
            image = image[..., edge : edge + self.config.crop, edge : edge + self.config.crop]
        return super().to_data_image(_resized(image, self.image_size))

    @property
    def scores_realism(self) -> bool:
        """A critic knows whole images only."""
        return self.config.judge and self.config.crop is None

    def realism(self, images: Tensor) -> Tensor:
        """The critic's logit that an image is real, each by itself."""
        if not self.scores_realism:
            return super().realism(images)
        return self.critic(2 * _resized(images, self.resolution) - 1)

    def fit(self, images: Tensor, *, target: LabelOracle | None = None, context: JobContext) -> None:
        """Fit, or read the file of weights where there is one."""
        if self.config.fitted:
            super().fit(images, target=target, context=context)
        else:
            load_weights(self, read_weights(Path(self.config.weights)), source=self.config.weights, skip=TRAINED_ONLY)

    def draw_weights(self, draws: torch.Generator) -> None:
        draw_all(self.generator, draws)
        draw_all(self.critic, draws)
        self.average.load_state_dict(self.generator.state_dict())

    def begin_step(self, step: int) -> None:
        self._step = step

    def critic_loss(self, batches: PublicBatches, draws: torch.Generator) -> tuple[Tensor, Figures]:
        """Of telling real from made images, both as they are augmented."""
        real = self._augmented(self._real(batches, draws), draws)
        with torch.no_grad():
            made = self._augmented(self._made(self.config.batch_size, draws)[0], draws)
        of_real, of_made = self.critic(real), self.critic(made)
        loss = F.softplus(of_made).mean() + F.softplus(-of_real).mean()
        figures = {"critic_loss": loss.detach()}
        if self.augmentation is not None:
            self.augmentation.watch(of_real.detach())
            figures["augmentation"] = self.augmentation.probability.clone()
        return loss, figures

    def generator_loss(self, batches: PublicBatches, draws: torch.Generator) -> tuple[Tensor, Figures]:
        """Of not being told from real images."""
        made, _ = self._made(self.config.batch_size, draws)
        loss = F.softplus(-self.critic(self._augmented(made, draws))).mean()
        return loss, {"generator_loss": loss.detach()}

    def slope_loss(self, batches: PublicBatches, draws: torch.Generator) -> Tensor:
        """The critic's regulariser, for all the steps until the next one."""
        real = self._augmented(self._real(batches, draws), draws).requires_grad_(True)
        return self._gamma / 2 * slope_penalty(self.critic(real), real) * self.config.r1_every

    def path_loss(self, draws: torch.Generator) -> Tensor:
        """The generator's regulariser, on half a batch, for all the steps until the next one."""
        made, styles = self._made(max(self.config.batch_size // 2, 1), draws)
        penalty = self.paths.penalty(made, styles, draws)
        return self.config.path_length_weight * penalty * self.config.path_length_every

    def _step_critic(self, batches: PublicBatches, adam: torch.optim.Adam, draws: torch.Generator) -> Figures:
        figures = super()._step_critic(batches, adam, draws)
        if self._gamma and self._step % self.config.r1_every == 0:
            descend(self.slope_loss(batches, draws), adam)
        return figures

    def _step_generator(self, batches: PublicBatches, adam: torch.optim.Adam, draws: torch.Generator) -> Figures:
        figures = super()._step_generator(batches, adam, draws)
        if self.config.path_length_weight and self._step % self.config.path_length_every == 0:
            descend(self.path_loss(draws), adam)
        batch = self.config.batch_size
        half_life = self.config.ema_half_life
        move_average(self.average, self.generator, seen=self._step * batch, batch=batch, half_life=half_life)
        return figures

    def _adam(self, name: str, lr: float) -> torch.optim.Adam:
        """Slowed so that a step of the regulariser every so often leaves the pace of learning as it is.

        Source: Karras et al., CVPR 2020, appendix B (lazy regularisation).
        """
        lazy = {
            "critic": self.config.r1_every if self._gamma else 0,
            "generator": self.config.path_length_every if self.config.path_length_weight else 0,
        }[name]
        share = lazy / (lazy + 1) if lazy else 1.0
        first, second = (beta**share for beta in self.config.betas)
        return torch.optim.Adam(getattr(self, name).parameters(), lr=lr * share, betas=(first, second))

    @property
    def _gamma(self) -> float:
        given = self.config.r1_gamma
        return 0.0002 * self.resolution**2 / self.config.batch_size if given is None else given

    def _real(self, batches: PublicBatches, draws: torch.Generator) -> Tensor:
        """A batch of public images at the network's size, in [-1, 1]."""
        images = batches.draw(self.config.batch_size, draws)
        return 2 * _resized(images, self.resolution) - 1

    def _made(self, count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images of the generator in training, with fresh noise, and their styles."""
        latents = torch.randn(2, count, self.latent_size, generator=draws).to(self.generator.constant)
        styles = mixed_styles(self.generator, latents, mixing=self.config.style_mixing, draws=draws)
        return self.generator.run(styles, draws=draws)[1], styles

    def _augmented(self, images: Tensor, draws: torch.Generator) -> Tensor:
        return images if self.augmentation is None else self.augmentation(images, draws)


def shape_of(config: StyleGan2Config, channels: int, size: int) -> Shape:
    """The networks for images of `size` pixels.

    Raises:
        ConfigError: if they cannot make such images, or not of the crop asked for.
    """
    if config.crop and (config.fitted or config.crop > size):
        raise ConfigError(
            f"crop: {config.crop} pixels are cut from images of {size} by a network that was trained on larger views: "
            "leave it out, or give weights and a smaller one."
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
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


def _augmentation(config: StyleGan2Config) -> AdaptiveAugmentation | None:
    if config.augmentation_target is None:
        return None
    return AdaptiveAugmentation(target=config.augmentation_target, pace=1 / config.augmentation_images)
