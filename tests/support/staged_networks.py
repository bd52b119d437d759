"""The tiny networks as staged priors, and how attacks on them are run."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.support.golden_networks import BLOCKS, LATENT_SIZE, TinyStyle
from workloads.context import JobContext
from workloads.inversion.attack import Access
from workloads.observation.oracles import LabelOracle
from workloads.priors.base import PriorConfig
from workloads.priors.staged import StagedPrior

CPU = torch.device("cpu")


class TinyStaged(StagedPrior):
    """`TinyStyle`, whose mean style is the one it carries."""

    latent_size = style_size = LATENT_SIZE
    layers = blocks = BLOCKS

    def __init__(self, network: nn.Module) -> None:
        super().__init__(PriorConfig(kind="tiny_style"), channels=3, image_size=8, classes=6)
        assert isinstance(network, TinyStyle)
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
        raise NotImplementedError("its weights are given")


class OneBlock(TinyStaged):
    """The tiny generator, which takes a style itself, in the place of the blocks."""

    def __init__(self, style: nn.Module, generator: nn.Module) -> None:
        super().__init__(style)
        self.generator = generator

    def run_blocks(self, styles: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return styles, self.generator(styles[:, 0]) * 2 - 1


class Signed(nn.Module):
    """A classifier that was recorded on images in [-1, 1]."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier, self.head = classifier, classifier.head
        self.mean = self.std = torch.full((3, 1, 1), 0.5)

    def normalize(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std

    def features(self, normalized: Tensor) -> Tensor:
        features: Tensor = self.classifier.features(normalized)  # type: ignore[operator]
        return features


def access_to(target: LabelOracle, prior: Any, **known: Any) -> Access[Any]:
    return Access(target, CPU, image_size=8, prior=prior, findings=known)
