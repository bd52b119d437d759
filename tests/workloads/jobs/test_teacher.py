"""The target model as a teacher: what it is shown, and who is taught by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from orchestrator.sweep import Sweep
from tests.support.interruptions import context_at
from tests.support.toy import toy_sweep
from workloads.core.randomness import generator
from workloads.defenses.random_erasing import RandomErasingConfig
from workloads.jobs.base import job_from
from workloads.jobs.fit_prior import FitPriorConfig
from workloads.jobs.fit_surrogate import FitSurrogateConfig
from workloads.jobs.teacher import teacher
from workloads.models.base import Classifier
from workloads.models.small_cnn import SmallCnnConfig
from workloads.observation.oracles import LabelOracle, ScoreOracle
from workloads.training.classifiers import Architecture

CORNER = RandomErasingConfig(min_area=0.25, max_area=0.25, location="fixed_corner")  # 4 x 4 of 8 x 8 pixels


def target_model() -> Classifier:
    model = Architecture(model=SmallCnnConfig(width=4, stages=2), classes=3, channels=3, image_size=8).build()
    model.draw_weights(generator("test", "target"))
    return model.eval().requires_grad_(False)


def scores_of(folder: Path, erasing: RandomErasingConfig | None) -> ScoreOracle:
    public = torch.full((4, 3, 8, 8), 51, dtype=torch.uint8)  # 0.2 of white
    oracle = teacher(ScoreOracle, target_model(), erasing=erasing, public=public, context=context_at(folder))
    assert isinstance(oracle, ScoreOracle)
    return oracle


def test_without_erasing_the_teacher_sees_images_whole(tmp_path: Path) -> None:
    images = torch.rand(5, 3, 8, 8, generator=generator("test", "images"))
    expected = target_model()(images).softmax(1)
    torch.testing.assert_close(scores_of(tmp_path, None).probabilities(images), expected)


def test_what_is_erased_the_teacher_sees_in_the_public_mean(tmp_path: Path) -> None:
    oracle, images = scores_of(tmp_path, CORNER), torch.rand(5, 3, 8, 8, generator=generator("test", "images"))
    told = oracle.probabilities(images)
    images[:, :, :4, :4] = 0.2
    torch.testing.assert_close(told, target_model()(images).softmax(1))
    assert oracle.queries == 5


def test_boxes_depend_on_how_much_was_asked_before_alone(tmp_path: Path) -> None:
    images = torch.rand(6, 3, 8, 8, generator=generator("test", "images"))
    undisturbed, resumed = (scores_of(tmp_path, RandomErasingConfig(min_area=0.3, max_area=0.3)) for _ in range(2))
    undisturbed.probabilities(images[:4])
    resumed.queries = 4  # as a job that was killed there begins again
    assert torch.equal(undisturbed.probabilities(images[4:]), resumed.probabilities(images[4:]))


def test_labels_may_be_all_that_a_teacher_tells(tmp_path: Path) -> None:
    public = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    oracle = teacher(LabelOracle, target_model(), erasing=CORNER, public=public, context=context_at(tmp_path))
    assert type(oracle) is LabelOracle


def erasing_of_taught_jobs(folder: Path, attack: dict[str, Any]) -> dict[str, Any]:
    """How each taught job of a defended trial erases images before the target model sees them, by role."""
    surrogate = {"kind": "small_cnn", "width": 2, "stages": 2}
    host = {"kind": "lomma", "host": {"kind": "kedmi"}, "distillation": {"models": [surrogate]}}
    sweep: Sweep = toy_sweep(folder, folder / "runs", attacks=[{"kind": "gmi"}, {**attack, "host": host}])
    defended = next(planned for planned in sweep.plans() if not planned.trial.baseline)
    configs = {role: job_from(defended.job(key).config).config for role, key in defended.keys.named().items()}
    taught = (FitPriorConfig, FitSurrogateConfig)
    return {role: config.erasing for role, config in configs.items() if isinstance(config, taught)}


def test_an_attacker_who_erases_for_teachers_has_prior_and_surrogates_taught_so(tmp_path: Path) -> None:
    by_role = erasing_of_taught_jobs(tmp_path, {"kind": "erasing_aware", "erase_teacher": True})
    assert by_role.pop("prior/gmi") is None  # no teacher
    assert by_role.keys() == {"prior/erasing_aware", "surrogate.0/erasing_aware"}
    assert all(isinstance(erasing, RandomErasingConfig) for erasing in by_role.values())


def test_by_default_teachers_see_images_whole(tmp_path: Path) -> None:
    assert set(erasing_of_taught_jobs(tmp_path, {"kind": "erasing_aware"}).values()) == {None}
