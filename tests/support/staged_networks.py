"""The tiny networks as staged priors, and how attacks on them are run."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.support.golden_networks import (
    BLOCKS,
    IDENTITIES,
    LATENT_SIZE,
    TinyClassifier,
    TinyGenerator,
    TinyNetworks,
    TinyStyle,
)
from workloads.context import JobContext
from workloads.inversion.attack import Access
from workloads.observation.oracles import LabelOracle, WhiteBoxOracle
from workloads.priors.base import Prior, PriorConfig
from workloads.priors.staged import StagedPrior

CPU = torch.device("cpu")


class TinyStaged(StagedPrior):
    """`TinyStyle`, whose mean style is the one it carries."""

    latent_size = style_size = LATENT_SIZE
    layers = blocks = BLOCKS

    def __init__(self, network: TinyStyle) -> None:
        super().__init__(PriorConfig(kind="tiny_style"), channels=3, image_size=8, classes=IDENTITIES)
        self.network = network

    def styles(self, latents: Tensor, *, truncation: float = 1.0, cutoff: int | None = None) -> Tensor:
        return self.network.mapping(latents, truncation=truncation, cutoff=BLOCKS if cutoff is None else cutoff)

    def run_blocks(
        self,
        styles: Tensor,
        features: Tensor | None = None,
        image: Tensor | None = None,
        *,
        first: int = 0,
        last: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        last = BLOCKS - 1 if last is None else last
        return self.network.synthesis(styles, features, image, first=first, last=last)

    def fit(self, images: Tensor, *, target: LabelOracle | None = None, context: JobContext) -> None:
        raise NotImplementedError("its weights were recorded")


class OneBlock(TinyStaged):
    """The tiny generator, which takes a style itself, in the place of the blocks."""

    def __init__(self, style: TinyStyle, generator: TinyGenerator) -> None:
        super().__init__(style)
        self.generator = generator

    def run_blocks(self, styles: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return styles, self.generator(styles[:, 0]) * 2 - 1


class Signed(nn.Module):
    """A classifier that was recorded on images in [-1, 1]."""

    def __init__(self, classifier: TinyClassifier) -> None:
        super().__init__()
        self.classifier, self.head = classifier, classifier.head
        self.mean = self.std = torch.full((3, 1, 1), 0.5)

    def normalize(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std

    def features(self, normalized: Tensor) -> Tensor:
        return self.classifier.features(normalized)


def access_to(target: LabelOracle, prior: Prior, **findings: Any) -> Access[Any]:
    """What an attack on a staged prior is given; `findings` are those of its `prepare`."""
    return Access(target, CPU, image_size=8, prior=prior, findings=findings)


def signed_access(networks: TinyNetworks, **findings: Any) -> Access[Any]:
    """The target, recorded on images in [-1, 1], with its weights, and the style generator as the prior."""
    return access_to(WhiteBoxOracle(Signed(networks.target)), TinyStaged(networks.style), **findings)
