"""DeepInversion: images that are named as wanted and whose batch norms see what they saw in training; no prior."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from workloads.core.checkpoints import State
from workloads.core.config import Fraction
from workloads.core.errors import ConfigError
from workloads.inversion.attack import ATTACKS, Access
from workloads.inversion.gradient_search import GradientAttackConfig, WhiteBoxAttack
from workloads.inversion.optimizers import Adam, Variables
from workloads.inversion.rows import Rows
from workloads.models.base import Classifier
from workloads.observation.objectives import cross_entropy
from workloads.observation.oracles import OpenClassifier, WhiteBoxOracle

MEAN, SPREAD = 0.5, 0.25  # about those of ImageNet: the authors' rate and weights are for images normalised by them
Beta = Annotated[float, Field(ge=0, lt=1)]


class DeepinversionConfig(GradientAttackConfig):
    """Defaults are those of the authors' code at full resolution, where a batch mixes classes; here it is of one."""

    needs_prior: ClassVar[bool] = False

    kind: Literal["deepinversion"] = "deepinversion"
    restarts: PositiveInt = 1
    """Batches made for each identity."""
    images: PositiveInt = 32
    """Of a batch: together they have to look as the training images did to each batch norm. Memory grows with it."""
    keep: PositiveInt = 32
    """Of the restarts x images made of each identity; the authors keep all."""
    steps: PositiveInt = 2000
    """Of each batch."""
    chunk_rows: PositiveInt = 32
    """Batches at once."""
    lr: PositiveFloat = 0.25
    betas: tuple[Beta, Beta] = (0.5, 0.9)
    warmup: NonNegativeInt = 100
    """Steps over which the learning rate rises to `lr`, from where it falls to 0 along a cosine."""
    statistics_weight: NonNegativeFloat = 0.01
    """Of the distances between the batch's statistics and those of training; networks smaller than ResNet-50 have fewer
    and may want more."""
    first_factor: NonNegativeFloat = 10.0
    """Of the first batch norm beside the others."""
    variation_weight: NonNegativeFloat = 1e-4
    norm_weight: NonNegativeFloat = 1e-5
    shift: Fraction = 0.13
    """Of the side: how far a batch is rolled at most, either way, before the target sees it."""
    flip: Fraction = 0.5
    """Probability that it is mirrored."""

    @property
    def made(self) -> int:
        return self.restarts * self.images


@ATTACKS.register(DeepinversionConfig)
class Deepinversion(WhiteBoxAttack):
    """Pixels themselves descend on cross-entropy, batch-norm statistics, total variation and length.

    A row is a batch of images of one identity: their statistics tie them together, and no two identities.

    Source: Yin et al., "Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion", CVPR 2020, section 3.2.
    """

    config: DeepinversionConfig

    @classmethod
    def check_target(cls, config: DeepinversionConfig, target_model: Classifier) -> None:
        if not batch_norms(target_model):
            raise ConfigError(
                f"{config.label} compares images with the statistics of batch norms, and {target_model.config.kind} "
                "keeps none: attack a target that does, such as small_cnn, or leave the attack out."
            )

    @property
    def rule(self) -> Adam:
        return Adam(self.config.lr, self.config.betas, schedule=self.schedule)

    def schedule(self, step: int) -> float:
        """Factor of the learning rate at a step counted from 0."""
        warmup, steps = self.config.warmup, self.config.steps
        if step < warmup:
            return (step + 1) / warmup
        return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2

    def start(self, access: Access[WhiteBoxOracle], rows: Rows) -> Variables:
        shape = (self.config.images, access.channels, access.image_size, access.image_size)
        return {"images": rows.normal(math.prod(shape), "start").unflatten(1, shape).to(access.device)}

    def constrain(self, access: Access[WhiteBoxOracle], variables: Variables, kept: State) -> Variables:
        return {"images": variables["images"].clamp(-MEAN / SPREAD, (1 - MEAN) / SPREAD)}

    def losses(self, access: Access[WhiteBoxOracle], variables: Variables, rows: Rows, step: int) -> Tensor:
        batches = self._moved(variables["images"], rows, step)
        each = rows.repeated(self.config.images)
        images = self.render(access, batches.flatten(0, 1), each)
        looks = self.looks(access, images, rows, step)
        length = batches.flatten(2).norm(dim=2).mean(1)
        smooth = self.config.variation_weight * total_variation(batches) + self.config.norm_weight * length
        return looks.unflatten(0, batches.shape[:2]).mean(1) + smooth

    def identity_losses(self, access: Access[WhiteBoxOracle], images: Tensor, identities: Tensor) -> Tensor:
        """Cross-entropy of each image, and how far the statistics of its batch are from those of training."""
        norms = batch_norms(access.target.original)
        logits, read = access.target.logits_and_inputs(images, norms)
        gaps = [statistics_gap(norm, own.unflatten(0, (-1, self.config.images))) for norm, own in read]
        gap = self.config.statistics_weight * (self.config.first_factor * gaps[0] + sum(gaps[1:]))
        return cross_entropy(logits, identities) + gap.repeat_interleave(self.config.images)

    def _moved(self, batches: Tensor, rows: Rows, step: int) -> Tensor:
        """Each batch rolled and mirrored as a whole, by draws of its row."""
        most = round(self.config.shift * batches.shape[-1])
        moved = []
        for batch, draws in zip(batches, rows.generators("move", step), strict=True):
            down, across = torch.randint(-most, most + 1, (2,), generator=draws).tolist()
            mirrored = bool(torch.rand((), generator=draws) < self.config.flip)
            rolled = batch.roll((down, across), (-2, -1))
            moved.append(rolled.flip(-1) if mirrored else rolled)
        return torch.stack(moved)

    def latents(self, access: Access[WhiteBoxOracle], state: State, rows: Rows) -> tuple[Rows, Tensor]:
        return rows.repeated(self.config.images), state["variables"]["images"].flatten(0, 1)

    def render(self, access: Access[WhiteBoxOracle], latents: Tensor, rows: Rows) -> Tensor:
        return MEAN + SPREAD * latents

    def protocol(self) -> dict[str, Any]:
        return super().protocol() | {"images": self.config.images}


def batch_norms(model: OpenClassifier) -> list[nn.Module]:
    """The layers of a model that remember what they saw in training."""
    return [own for own in model.modules() if isinstance(own, nn.BatchNorm2d) and own.running_mean is not None]


def statistics_gap(norm: Any, read: Tensor) -> Tensor:
    """Distance of the mean, and of the variance, of each batch that a norm reads from those it keeps.

    Shape: (B, N, C, H, W) to (B,).
    """
    read = read.to(norm.running_mean.dtype)
    mean, variance = read.mean((1, 3, 4)), read.var((1, 3, 4), correction=0)
    return (mean - norm.running_mean).norm(dim=1) + (variance - norm.running_var).norm(dim=1)


def total_variation(batches: Tensor) -> Tensor:
    """Length of all differences between neighbours, summed over right, below and the two diagonals.

    Shape: (B, N, C, H, W) to (B,).
    """
    left, right, above, below = batches[..., :-1], batches[..., 1:], batches[..., :-1, :], batches[..., 1:, :]
    differences = (
        left - right,
        above - below,
        below[..., :-1] - above[..., 1:],
        above[..., :-1] - below[..., 1:],
    )
    return torch.stack([own.flatten(1).norm(dim=1) for own in differences]).sum(0)
