"""The target model as it answers while priors and surrogates are trained."""

from __future__ import annotations

from torch import Tensor

from workloads.context import JobContext
from workloads.defenses.erased_images import ErasedClassifier
from workloads.defenses.random_erasing import RandomErasingConfig
from workloads.jobs.target import TargetModel
from workloads.models.base import Classifier
from workloads.observation.oracles import LabelOracle
from workloads.training.prediction import channel_mean


def teacher(
    access: type[LabelOracle],
    target_model: TargetModel,
    *,
    erasing: RandomErasingConfig | None,
    public: Tensor,
    context: JobContext,
) -> LabelOracle:
    """The target model behind the oracle that `access` names, showing it erased images if `erasing` is set.

    Boxes filled with the mean take the mean colour of `public`, (N, C, H, W) uint8.
    """
    if erasing is None:
        return access(target_model)
    assert isinstance(target_model, Classifier), "only attacks that hold the target model know its defense"
    draws = context.device_generator()
    # A batch's boxes are a function of how many images were shown before, so that they survive a restart.
    erased = ErasedClassifier(
        target_model,
        erasing,
        mean=channel_mean(target_model, public),
        draws=lambda: context.rewind(draws, "erasing", oracle.queries),
    )
    oracle = access(erased)
    return oracle
