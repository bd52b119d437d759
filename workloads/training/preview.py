"""What a classifier is shown of images: as it reads them, and as training varies and hides them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workloads.core.randomness import generator
from workloads.core.resampling import resize
from workloads.defenses.base import DEFENSES, Defense, DefenseConfig, TrainingFacts
from workloads.models.base import ModelConfig
from workloads.recipes.augmentation import AugmentationConfig, augment


def as_read(images: Tensor, model: ModelConfig) -> Tensor:
    """Images at the size that a network reads, before it normalises them.

    Shape: (N, C, H, W) uint8 to (N, C, S, S) float in [0, 1].
    """
    size = model.input_size or images.shape[-1]
    return resize(images.float() / 255, (size, size), antialias=True)


def as_trained_on(
    images: Tensor, model: ModelConfig, augmentation: AugmentationConfig, defenses: Sequence[DefenseConfig]
) -> Tensor:
    """One draw of what training makes of images: augmentation and, after normalisation, defenses that change images.

    Shape: (N, C, H, W) uint8 to (N, C, S, S) float, in [0, 1] but for what defenses paint.
    """
    varied = augment(images.float() / 255, augmentation, generator=generator("preview", "augment"))
    size = model.input_size or images.shape[-1]
    normalized = (resize(varied, (size, size), antialias=True) - model.input_mean) / model.input_std
    facts = TrainingFacts(
        images=len(images),
        image_shape=(images.shape[1], size, size),
        channel_mean=normalized.mean((0, 2, 3)),
        generator=lambda *purpose: generator("preview", *purpose),
    )
    for index, config in enumerate(defenses):
        if changes_images(config):
            defense = DEFENSES.build(config, facts=facts)
            draws = generator("preview", "defense", index)
            normalized = defense.augment(normalized, indices=torch.arange(len(images)), generator=draws)
    return normalized * model.input_std + model.input_mean


def changes_images(config: DefenseConfig) -> bool:
    """Whether a defense changes the images that a network is trained on, each by itself."""
    return DEFENSES.class_of(config).augment is not Defense.augment
