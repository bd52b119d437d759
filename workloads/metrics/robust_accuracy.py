"""Robust accuracy: how often a classifier stays right about a held-out image under the worst small change of it."""

from __future__ import annotations

import functools
from decimal import Decimal
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from workloads.core.config import ACCEPTS_LISTS, Steps
from workloads.core.randomness import generator
from workloads.metrics.apgd import Loss, fooled, towards
from workloads.metrics.base import METRICS, ClassifierMetric, HeldOutEvidence, MetricConfig
from workloads.models.base import Classifier
from workloads.training.prediction import unit_range

BATCH = 256

Bound = Annotated[float, Field(gt=0, le=1)]


class RobustAccuracyConfig(MetricConfig):
    """Which changes are looked for, and how hard."""

    kind: Literal["robust_accuracy"] = "robust_accuracy"
    eps: Annotated[tuple[Bound, ...], ACCEPTS_LISTS, Field(min_length=1)] = (1e-5, 5e-4, 2.5e-3, 3.1e-2)
    """Largest changes of a pixel of an image in [0, 1], each of which gives a number."""
    iterations: Steps = 100
    """Steps of each search; each is a pass of the network forwards and backwards."""
    targets: PositiveInt = 9
    """Wrong classes that a search is begun towards: those with the highest logits of the unchanged image."""


@METRICS.register(RobustAccuracyConfig)
class RobustAccuracy(ClassifierMetric):
    """Fraction of held-out private images that stay classified correctly under APGD on the cross-entropy and, after it,
    towards each of some wrong classes.

    Tiny bounds tell how much a network leans on features that no person sees, which is held to predict what it leaks.

    Source: Croce and Hein, ICML 2020 (APGD-CE and APGD-T of AutoAttack); as a predictor, Torp, Smith and Breuer,
    "Reducing information dependency does not cause training data privacy. Adversarially non-robust features do",
    ICLR 2026, with these bounds.
    """

    needs_gradients: ClassVar[bool] = True
    fewest_classes: ClassVar[int] = 4
    config: RobustAccuracyConfig

    def better(self) -> dict[str, str]:
        """More is better, as a matter of robustness."""
        return {_name(eps): "higher" for eps in self.config.eps}

    def rows(self, evidence: HeldOutEvidence) -> dict[str, Tensor]:
        """1 for each held-out image that is named right and stays so, else 0.

        Bounds are tried from the smallest on: what falls within one falls within a larger one.
        """
        network = evidence.network
        assert network is not None, "validate refuses it for a black box"
        standing = evidence.logits.argmax(1) == evidence.identities
        rows = {}
        for eps in sorted(self.config.eps):
            for indices in standing.nonzero().flatten().split(BATCH):
                standing[indices] = self._stands(network, evidence, indices, eps)
            rows[_name(eps)] = standing.double()
        return {name: rows[name] for name in self.better()}

    def _stands(self, network: Classifier, evidence: HeldOutEvidence, indices: Tensor, eps: float) -> Tensor:
        """Which of these images no search changes enough. Shape: (B,) int64 to (B,) bool, on the CPU."""
        device = network.mean.device
        images, identities = unit_range(evidence.images[indices].to(device)), evidence.identities[indices].to(device)
        others = _likeliest_others(evidence.logits[indices], evidence.identities[indices], self.config.targets)
        stands = torch.ones(len(indices), dtype=torch.bool, device=device)
        for number, towards_classes in enumerate([None, *others.T.to(device)]):
            left = stands.nonzero().flatten()
            if not len(left):
                break
            here = identities[left]
            loss: Loss = functools.partial(F.cross_entropy, target=here, reduction="none")
            if towards_classes is not None:
                loss = towards(here, towards_classes[left])
            # The same start for all images: then no number depends on their order.
            start = 2 * torch.rand(images.shape[1:], generator=generator("robust_accuracy", number), device="cpu") - 1
            search = functools.partial(fooled, eps=eps, iterations=self.config.iterations, start=start.to(device))
            stands[left] = ~search(network, images[left], here, loss)
        return stands.cpu()


def _likeliest_others(logits: Tensor, identities: Tensor, count: int) -> Tensor:
    """The wrong classes with the highest logits. Shape: (B, classes), (B,) to (B, up to `count`)."""
    others = logits.scatter(1, identities[:, None], float("-inf"))
    return others.topk(min(count, logits.shape[1] - 1)).indices


def _name(eps: float) -> str:
    """Name of the number of a bound, without dots, which separate an attack from its metric.

    >>> [_name(eps) for eps in (1e-05, 0.0025, 0.031)]
    ['robust_accuracy_1e-5', 'robust_accuracy_25e-4', 'robust_accuracy_31e-3']
    """
    _, digits, exponent = Decimal(repr(eps)).normalize().as_tuple()
    return f"robust_accuracy_{''.join(map(str, digits))}e{exponent}"
