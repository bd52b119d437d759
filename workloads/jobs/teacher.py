"""The target model as it answers those who learn from it: priors and surrogates."""

from __future__ import annotations

from torch import Tensor

from workloads.context import JobContext
from workloads.defenses.erased_images import ErasedClassifier
from workloads.defenses.random_erasing import RandomErasingConfig
from workloads.models.base import Classifier
from workloads.observation.oracles import LabelOracle
from workloads.training.prediction import channel_mean


def teacher(
    asks: type[LabelOracle],
    target_model: Classifier,
    *,
    erasing: RandomErasingConfig | None,
    public: Tensor,
    context: JobContext,
) -> LabelOracle:
    """What may be asked of a target model; it sees images erased where there is a law, painted with the public mean.

    Shape: public (N, C, H, W) uint8.
    """
    if erasing is None:
        return asks(target_model)
    # A batch's boxes are a function of how many images were shown before, so that they survive a restart.
    shown = ErasedClassifier(
        target_model,
        erasing,
        mean=channel_mean(target_model, public),
        draws=lambda: context.generator("erasing", oracle.queries),
    )
    oracle = asks(shown)
    return oracle
