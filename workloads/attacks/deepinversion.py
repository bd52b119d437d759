"""DeepInversion: optimise pixels until the target names them as wanted and its batch norms see training statistics."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.config import Beta, Fraction, Steps
from workloads.core.errors import ConfigError
from workloads.inversion.attack import ATTACKS, Access
from workloads.inversion.gradient_search import GradientAttack, GradientAttackConfig
from workloads.inversion.objective import Objective
from workloads.inversion.optimizers import Adam, Descent, Variables
from workloads.inversion.rows import Rows
from workloads.inversion.step import Step
from workloads.models.base import Classifier
from workloads.observation.losses import cross_entropy
from workloads.observation.oracles import LabelOracle, OpenClassifier, WhiteBoxOracle

MEAN, SPREAD = 0.5, 0.25  # about those of ImageNet: the authors' rate and weights are for images normalised by them


class DeepinversionConfig(GradientAttackConfig):
    """Settings of DeepInversion; the defaults are those of the authors' code at full resolution.

    A batch of the authors mixes classes; here it is of one identity.
    """

    needs_prior: ClassVar[bool] = False

    version: ClassVar[int] = 3
    kind: Literal["deepinversion"] = "deepinversion"
    restarts: PositiveInt = 1
    """Batches optimised for each identity."""
    images: PositiveInt = 32
    """Images in a batch, whose joint statistics have to look like those of training. Memory grows with it."""
    keep: PositiveInt = 32
    """Reconstructions kept per identity, of restarts x images; the authors keep all."""
    steps: Steps = 2000
    """Steps that each batch is optimised for."""
    chunk_rows: PositiveInt = 32
    """Batches optimised at once. Bounds memory; changes results by float rounding only."""
    lr: PositiveFloat = 0.25
    """Largest learning rate of the pixels."""
    betas: tuple[Beta, Beta] = (0.5, 0.9)
    """Decay rates of Adam's moments."""
    warmup: NonNegativeInt = 100
    """Steps over which the learning rate rises to `lr`, from where it falls to 0 along a cosine."""
    statistics_weight: NonNegativeFloat = 0.01
    """Weight of the distances between the batch's statistics and those of training. Networks smaller than ResNet-50
    have fewer batch norms and may need a larger weight."""
    first_factor: NonNegativeFloat = 10.0
    """Weight of the first batch norm relative to the others."""
    variation_weight: NonNegativeFloat = 1e-4
    """Weight of the total variation."""
    norm_weight: NonNegativeFloat = 1e-5
    """Weight of the Euclidean norm of an image."""
    shift: Fraction = 0.13
    """Largest shift of a batch before the target sees it, as a fraction of the side, in either direction."""
    flip: Fraction = 0.5
    """Probability that a batch is mirrored before the target sees it."""

    @property
    def candidates_per_identity(self) -> int:
        """Restarts x images of a batch."""
        return self.restarts * self.images


@ATTACKS.register(DeepinversionConfig)
class Deepinversion(GradientAttack[WhiteBoxOracle]):
    """Pixels descend on cross-entropy, batch-norm statistics, total variation and norm; there is no prior.

    A row is a batch of images of one identity: the statistics tie its images together, and no two identities.

    Source: Yin et al., "Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion", CVPR 2020, section 3.2.
    """

    oracle: ClassVar[type[LabelOracle]] = WhiteBoxOracle
    config: DeepinversionConfig

    def check_target(self, target_model: Classifier) -> None:
        """Refuse a target model without batch norms."""
        if not batch_norms(target_model):
            raise ConfigError(
                f"{self.config.label} compares images with the statistics of batch norms, and "
                f"{target_model.config.kind} keeps none: attack a target that does, such as small_cnn, or leave the "
                "attack out."
            )

    def default_objective(self) -> StatisticsObjective:
        """Cross-entropy and batch-norm statistics."""
        return StatisticsObjective(self.config)

    @property
    def descent(self) -> Descent:
        """Adam with warm-up and a cosine."""
        return Descent(Adam(self.config.lr, self.config.betas, schedule=self.schedule))

    def schedule(self, step: int) -> float:
        """Factor of the learning rate at a step counted from 0."""
        warmup, steps = self.config.warmup, self.config.steps
        if step < warmup:
            return (step + 1) / warmup
        return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2

    def start(self, access: Access[WhiteBoxOracle], rows: Rows) -> Variables:
        """Standard normal pixels. Shape: (B, images, C, H, W)."""
        shape = (self.config.images, access.channels, access.image_size, access.image_size)
        return {"images": rows.normal(math.prod(shape), "start").unflatten(1, shape)}

    def constrain(self, access: Access[WhiteBoxOracle], variables: Variables, kept: State) -> Variables:
        """Clamp pixels to images in [0, 1]."""
        return {"images": variables["images"].clamp(-MEAN / SPREAD, (1 - MEAN) / SPREAD)}

    def losses(self, access: Access[WhiteBoxOracle], variables: Variables, rows: Rows, step: Step) -> Tensor:
        """The mean loss over a batch's images, with total variation and norm."""
        batches = self._shifted(variables["images"], rows, step)
        images = self.render(access, batches.flatten(0, 1), rows.repeated(self.config.images))
        losses = self.viewed_losses(access, images, rows, step)
        norms = batches.flatten(2).norm(dim=2).mean(1)
        smoothness = self.config.variation_weight * total_variation(batches) + self.config.norm_weight * norms
        return losses.unflatten(0, batches.shape[:2]).mean(1) + smoothness

    def latents(self, access: Access[WhiteBoxOracle], state: State, rows: Rows) -> tuple[Rows, Tensor]:
        """The pixels, images of a batch side by side."""
        return rows.repeated(self.config.images), state["variables"]["images"].flatten(0, 1)

    def render(self, access: Access[WhiteBoxOracle], latents: Tensor, rows: Rows) -> Tensor:
        """Pixels in [0, 1], undone from the authors' normalisation."""
        return MEAN + SPREAD * latents

    def protocol(self) -> dict[str, Any]:
        """Adds the number of images in a batch."""
        return super().protocol() | {"images": self.config.images}

    def _shifted(self, batches: Tensor, rows: Rows, step: Step) -> Tensor:
        """Each batch rolled and mirrored as one, by draws of its row."""
        side = batches.shape[-1]
        most = round(self.config.shift * side)
        draws = rows.draws("move").at(step.counter)
        down, across = (draws.named("shift").integers(2 * most + 1, 2) - most).unbind(1)
        mirrored = draws.named("flip").uniform(1) < self.config.flip
        pixels = torch.arange(side, device=batches.device)
        lines = (pixels - down[:, None]) % side
        columns = (torch.where(mirrored, pixels.flip(0), pixels) - across[:, None]) % side
        row = torch.arange(len(batches), device=batches.device)[:, None, None]
        # One look-up in place of a roll and a flip for each batch. Shape: (B, H, W, N, C).
        moved = batches[row, :, :, lines[:, :, None], columns[:, None]]
        return moved.permute(0, 3, 4, 1, 2)


class StatisticsObjective(Objective[WhiteBoxOracle]):
    """Cross-entropy of each image, plus how far the statistics of its batch are from those of training."""

    def __init__(self, config: DeepinversionConfig) -> None:
        self._config = config

    def prepare(self, access: Access[WhiteBoxOracle], *, context: JobContext) -> State:
        """The batch norms hold all that is needed."""
        return {}

    def losses(self, access: Access[WhiteBoxOracle], images: Tensor, identities: Tensor) -> Tensor:
        """Cross-entropy of each image plus the statistics gap of its batch."""
        config = self._config
        norms = batch_norms(access.target.original)
        logits, inputs = access.target.logits_and_inputs(images, norms)
        gaps = [statistics_gap(norm, batch.unflatten(0, (-1, config.images))) for norm, batch in inputs]
        gap = config.statistics_weight * (config.first_factor * gaps[0] + sum(gaps[1:]))
        return cross_entropy(logits, identities) + gap.repeat_interleave(config.images)


def batch_norms(model: OpenClassifier) -> list[nn.Module]:
    """The layers of a model that keep running statistics of training."""
    return [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None]


def statistics_gap(norm: Any, inputs: Tensor) -> Tensor:
    """Distance of the mean, plus that of the variance, of each batch that a norm reads from its running statistics.

    Shape: (B, N, C, H, W) to (B,).
    """
    inputs = inputs.to(norm.running_mean.dtype)
    mean, variance = inputs.mean((1, 3, 4)), inputs.var((1, 3, 4), correction=0)
    return (mean - norm.running_mean).norm(dim=1) + (variance - norm.running_var).norm(dim=1)


def total_variation(batches: Tensor) -> Tensor:
    """Norm of the differences between neighbours, summed over right, below and the two diagonals.

    Shape: (B, N, C, H, W) to (B,).
    """
    left, right, above, below = batches[..., :-1], batches[..., 1:], batches[..., :-1, :], batches[..., 1:, :]
    differences = (
        left - right,
        above - below,
        below[..., :-1] - above[..., 1:],
        above[..., :-1] - below[..., 1:],
    )
    return torch.stack([difference.flatten(1).norm(dim=1) for difference in differences]).sum(0)
