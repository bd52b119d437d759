"""MID: a noisy bottleneck on the penultimate features, with a penalty on the information that passes it."""

from __future__ import annotations

import functools
from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn
from torch.nn import functional as F

from workloads.core.errors import ConfigError
from workloads.core.randomness import generator
from workloads.defenses.base import DEFENSES, Batch, Defense, DefenseConfig, Evidence
from workloads.models.base import Classifier

RAW_SHIFT = 5.0  # the standard deviation is softplus(raw - 5): next to nothing before training
EVALUATION_NOISE = "mid/evaluation"


class MidConfig(DefenseConfig):
    """How strongly to limit information."""

    kind: Literal["mid"] = "mid"
    weight: NonNegativeFloat = 0.01
    """Weight of the information term in the loss; the literature takes 0.003 to 0.02 for faces."""
    fidelity: Literal["sound", "official"] = "sound"
    """`official`: noise in evaluation too, as in the published code, which makes accuracies and attack gradients
    random; here the noise of a row is the same in every call. `sound`: no noise once training is over."""

    def change_model(self, model: Classifier) -> None:
        """Replace the head by a bottleneck."""
        if not isinstance(model.head, nn.Linear):
            raise ConfigError(f"mid replaces a linear last layer, and {model.config.kind} has none: use another model.")
        noisy = self.fidelity == "official"
        model.head = Bottleneck(model.head.in_features, model.classes, noise_in_evaluation=noisy)


class Bottleneck(nn.Module):
    """Linear head on a stochastic code of half the features' width. Shape: (B, F) to (B, classes)."""

    def __init__(self, width: int, classes: int, *, noise_in_evaluation: bool) -> None:
        super().__init__()
        self.statistics = nn.Linear(width, 2 * (width // 2))
        self.output = nn.Linear(width // 2, classes)
        self.noise: torch.Generator | None = None
        self.information = torch.zeros(())
        self._noise_in_evaluation = noise_in_evaluation

    def forward(self, features: Tensor) -> Tensor:
        """Logits; in training mode also keeps the information of the batch in `information`, in nats."""
        mean, raw = self.statistics(features).chunk(2, dim=1)
        std = F.softplus(raw - RAW_SHIFT)
        if self.training:
            self.information = information(mean, std)
        noise = self._noise_like(mean)
        return self.output(mean if noise is None else mean + std * noise)

    def _noise_like(self, mean: Tensor) -> Tensor | None:
        """Noise for a batch of codes; None if there is to be none. Shape: that of `mean`."""
        if self.training and self.noise is not None:
            return torch.randn(mean.shape, generator=self.noise, device=mean.device).to(mean.dtype)
        if self.training or not self._noise_in_evaluation:
            return None
        return _evaluation_noise(mean.shape, mean.dtype, mean.device)


@functools.lru_cache(maxsize=16)
def _evaluation_noise(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The same in every call, and copied to a device once. Shape: `shape`."""
    with torch.inference_mode(False):
        return torch.randn(shape, generator=generator(EVALUATION_NOISE), device="cpu").to(device, dtype)


@DEFENSES.register(MidConfig)
class Mid(Defense):
    """Limit the mutual information of input and prediction with a variational bottleneck before the last layer.

    Loss: cross-entropy plus `weight` times the mean divergence of the code from a standard normal.

    Source: Wang et al., "Improving Robustness to Model Inversion Attacks via Mutual Information Regularization",
    AAAI 2021.
    """

    capturable: ClassVar = False  # a recorded step would draw the same noise again
    config: MidConfig
    _head: Bottleneck

    def start(self, model: Classifier) -> None:
        """Find the bottleneck that stands in for the head."""
        assert isinstance(model.head, Bottleneck), "put there by MidConfig.change_model"
        self._head = model.head

    def begin_epoch(self, epoch: int) -> None:
        """Draw the noise of an epoch from a generator named after it."""
        self._head.noise = self.facts.generator_on_device("mid/noise", epoch)

    def penalty(self, batch: Batch) -> Tensor:
        """The weighted information that passes the bottleneck."""
        return self.config.weight * self._head.information

    def evidence(self) -> Evidence:
        """That information in the last batch, in nats."""
        return Evidence({"last_batch_information_nats": self._head.information.item()}, {})


def information(mean: Tensor, std: Tensor) -> Tensor:
    """Mean over rows of the divergence of N(mean, std^2) from N(0, 1), in nats. Shape: (B, K), (B, K) to ()."""
    return -0.5 * (1 + 2 * std.log() - mean.square() - std.square()).sum(1).mean()
