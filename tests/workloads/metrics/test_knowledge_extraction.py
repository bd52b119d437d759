"""What a student learns from reconstructions: everything, nothing, and the same again after an interruption."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.evidence import SIZE, evidence, judging
from workloads.context import JobContext, Progress
from workloads.core.errors import ShapeError
from workloads.metrics.base import ReconstructionEvidence
from workloads.metrics.intervals import Estimate
from workloads.metrics.knowledge_extraction import KnowledgeExtraction, KnowledgeExtractionConfig
from workloads.models.small_cnn import SmallCnnConfig
from workloads.recipes.optimization import TrainingConfig

STUDENT = SmallCnnConfig(width=4, stages=2)
TRAINING = TrainingConfig(epochs=6, batch_size=8, lr=0.05)
TRAIN, TEST = "knowledge_extraction_train_accuracy", "knowledge_extraction_test_accuracy"


def faces(seed: int, identities: list[int]) -> Tensor:
    """A bright band for each identity, in a place of its own, on noise. Shape: (N, 1, 16, 16) uint8."""
    images = torch.randint(80, (len(identities), 1, SIZE, SIZE), generator=torch.Generator().manual_seed(seed))
    for image, identity in zip(images, identities, strict=True):
        image[:, 5 * identity : 5 * identity + 5] += 150
    return images.to(torch.uint8)


def world(aimed: list[int], shown: list[int], *, people: int = 3) -> ReconstructionEvidence:
    """Reconstructions that aim at some identities and show these or others."""
    owners = list(range(people)) * 6
    return evidence(
        aimed,
        owners,
        images=faces(1, shown).float() / 255,
        private_images=faces(2, owners),
        held_out_images=faces(3, owners),
    )


def shares(estimates: dict[str, Estimate]) -> dict[str, tuple[float, int]]:
    """Value and number of images of each estimate."""
    return {name: (estimate.value, estimate.n) for name, estimate in estimates.items()}


def extracted(example: ReconstructionEvidence, context: JobContext, **settings: Any) -> dict[str, Estimate]:
    config = KnowledgeExtractionConfig(**{"student": STUDENT, "training": TRAINING, **settings})
    return KnowledgeExtraction(config).estimates(example, context=context)


def test_reconstructions_like_the_private_images_teach_to_name_those(tmp_path: Path) -> None:
    aimed = [0, 1, 2] * 8
    estimates = extracted(world(aimed, aimed), judging(tmp_path))
    assert shares(estimates) == {TRAIN: (1.0, 18), TEST: (1.0, 18)}


def test_reconstructions_of_somebody_else_teach_the_wrong_names(tmp_path: Path) -> None:
    aimed = [0, 1, 2] * 8
    estimates = extracted(world(aimed, [(identity + 1) % 3 for identity in aimed]), judging(tmp_path))
    assert shares(estimates) == {TRAIN: (0.0, 18), TEST: (0.0, 18)}


def test_only_images_of_the_identities_attacked_are_asked_for(tmp_path: Path) -> None:
    aimed = [0, 2] * 8
    estimates = extracted(world(aimed, aimed), judging(tmp_path))
    assert shares(estimates) == {TRAIN: (1.0, 12), TEST: (1.0, 12)}


def test_held_out_images_are_judged_by_themselves(tmp_path: Path) -> None:
    aimed = [0, 1, 2] * 8
    example = world(aimed, aimed)
    turned = dataclasses.replace(example.held_out, images=faces(3, [(identity + 1) % 3 for identity in range(3)] * 6))
    estimates = extracted(dataclasses.replace(example, held_out=turned), judging(tmp_path))
    assert shares(estimates) == {TRAIN: (1.0, 18), TEST: (0.0, 18)}


def hard() -> ReconstructionEvidence:
    """Reconstructions half of which show somebody else, so that accuracies depend on every draw."""
    aimed = [0, 1, 2] * 8
    return world(aimed, [(identity + at % 2) % 3 for at, identity in enumerate(aimed)])


BRIEF = TrainingConfig(epochs=3, batch_size=8, lr=0.02)


def test_a_student_is_the_same_for_the_same_job(tmp_path: Path) -> None:
    first, second = (extracted(hard(), judging(tmp_path), training=BRIEF) for _ in range(2))
    assert first == second


def test_a_student_depends_on_the_draws_of_its_job(tmp_path: Path) -> None:
    results = [extracted(hard(), judging(tmp_path, key=f"job {number}"), training=BRIEF) for number in range(6)]
    assert len({(estimates[TRAIN].value, estimates[TEST].value) for estimates in results}) > 1


def test_an_interrupted_student_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    undisturbed = extracted(hard(), judging(tmp_path), training=BRIEF)
    context = dataclasses.replace(judging(tmp_path), checkpoint_every_s=0.0)
    stopped = dataclasses.replace(context, on_progress=_stop_at(2))
    with pytest.raises(KeyboardInterrupt):
        extracted(hard(), stopped, training=BRIEF)
    seen: list[Progress] = []
    continued = dataclasses.replace(context, on_progress=seen.append)
    assert extracted(hard(), continued, training=BRIEF) == undisturbed
    assert [progress.step for progress in seen] == [2, 3], "the first epoch was not trained again"


def _stop_at(step: int) -> Callable[[Progress], None]:
    def stop(progress: Progress) -> None:
        if progress.step == step:
            raise KeyboardInterrupt

    return stop


def test_the_student_is_one_like_the_evaluation_model_where_none_is_named(tmp_path: Path) -> None:
    # The evaluation model of the evidence is one of 4 and 8 channels: the same as STUDENT.
    named = extracted(hard(), judging(tmp_path), training=BRIEF)
    assert extracted(hard(), judging(tmp_path), training=BRIEF, student=None) == named


def test_reconstructions_can_be_held_back_for_validation(tmp_path: Path) -> None:
    aimed = [0, 1, 2] * 8
    training = TRAINING.model_copy(update={"validation_fraction": 0.25, "select": "best_validation"})
    seen: list[Progress] = []
    context = dataclasses.replace(judging(tmp_path), on_progress=seen.append)
    assert extracted(world(aimed, aimed), context, training=training)[TEST].value == 1
    assert all("validation_accuracy" in progress.metrics for progress in seen)


@pytest.mark.parametrize(("fraction", "fewest"), [(0.0, 1), (0.25, 2)])
def test_holding_back_takes_two_reconstructions_of_each_identity(fraction: float, fewest: int) -> None:
    training = TrainingConfig(validation_fraction=fraction)
    assert KnowledgeExtraction(KnowledgeExtractionConfig(training=training)).fewest_reconstructions == fewest


def test_one_identity_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="needs two identities to tell apart, got 1: attack more of them"):
        extracted(world([1] * 4, [1] * 4), judging(tmp_path))
