"""The job that judges an attack, run on artifacts made by hand: an evaluation model that knows a few drawn people."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.evidence import judging
from workloads.context import DataInput
from workloads.core.randomness import generator
from workloads.datasets.avatars.dataset import Avatars, AvatarsConfig
from workloads.datasets.base import SplitConfig
from workloads.jobs.evaluate_attack import EvaluateAttack, EvaluateAttackConfig
from workloads.metrics.attack_accuracy import AttackAccuracyConfig
from workloads.metrics.base import MetricConfig
from workloads.metrics.delta_eval import DeltaEvalConfig
from workloads.metrics.feature_space import FeatureSpaceConfig
from workloads.metrics.fid import FidConfig
from workloads.metrics.knn_distance import KnnDistanceConfig
from workloads.metrics.knowledge_extraction import KnowledgeExtractionConfig
from workloads.metrics.perceptual_distance import PerceptualDistanceConfig
from workloads.metrics.prdc import PrdcConfig
from workloads.metrics.psnr import PsnrConfig
from workloads.metrics.ssim import SsimConfig
from workloads.metrics.trait_recovery import TraitRecoveryConfig
from workloads.models.small_cnn import SmallCnnConfig
from workloads.recipes.optimization import TrainingConfig
from workloads.training.classifiers import Architecture, save_classifier

PEOPLE, EACH, ATTACKED, KEPT = 4, 8, 3, 5
DATA = AvatarsConfig(people=PEOPLE, images_per_identity=EACH, image_size=16)
SPLIT = SplitConfig(test_fraction=0.25)
JUDGE = Architecture(model=SmallCnnConfig(width=4, stages=2), classes=PEOPLE, channels=3, image_size=16)


class World:
    """An evaluation model and an attack on the first three people, which made noise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        model = JUDGE.build()
        model.draw_weights(generator("test", "judge"))
        (folder / "evaluation").mkdir()
        save_classifier(folder / "evaluation", model, JUDGE)
        (folder / "attack").mkdir()
        rows = torch.cartesian_prod(torch.arange(ATTACKED), torch.arange(KEPT + 1))
        tensors = {
            "images": torch.rand(len(rows), 3, 16, 16, generator=generator("test", "made")),
            "identities": rows[:, 0].contiguous(),
            "restarts": rows[:, 1].contiguous(),
            "kept": rows[:, 1] < KEPT,
        }
        save_file(tensors, folder / "attack" / "reconstructions.safetensors")
        (folder / "attack" / "protocol.json").write_text('{"steps": 3}')

    def judged(self, *metrics: MetricConfig, name: str = "judged") -> Path:
        """The folder of a finished job."""
        output = self.folder / name
        output.mkdir()
        data = DataInput(dataset=DATA, digest="")
        inputs = {role: self.folder / role for role in ("attack", "evaluation")}
        context = dataclasses.replace(
            judging(output, key=name), inputs=inputs, load_images=lambda source: Avatars(DATA).load()
        )
        EvaluateAttack(EvaluateAttackConfig(data=data, split=SPLIT, metrics=metrics)).run(context)
        return output

    def extractor(self) -> SmallCnnConfig:
        """Another network, with weights in a file."""
        model = JUDGE.build()
        model.draw_weights(generator("test", "extractor"))
        save_file(model.state_dict(), self.folder / "extractor.safetensors")
        return SmallCnnConfig(width=4, stages=2, weights=str(self.folder / "extractor.safetensors"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def estimates(folder: Path) -> dict[str, Any]:
    numbers: dict[str, Any] = json.loads((folder / "metrics.json").read_text())["estimates"]
    return numbers


def test_every_metric_of_reconstructions_runs_in_the_job(world: World) -> None:
    metrics = (
        AttackAccuracyConfig(),
        KnnDistanceConfig(),
        DeltaEvalConfig(),
        FidConfig(resamples=2),
        PrdcConfig(),
        PsnrConfig(),
        SsimConfig(),
        PerceptualDistanceConfig(),
        TraitRecoveryConfig(),
        FeatureSpaceConfig(erasures=2),
        KnowledgeExtractionConfig(training=TrainingConfig(epochs=1, batch_size=8)),
    )
    numbers = estimates(world.judged(*metrics))
    assert {name.removesuffix("_evaluation") for name in numbers} == {
        "attack_accuracy",
        "knn_distance",
        "delta_eval",
        "fid",
        *("precision", "recall", "density", "coverage"),
        *("psnr", "ssim", "perceptual_distance"),
        *("trait_kinds", "trait_measures"),
        *("hull_overlap_private", "manifold_precision_private", "manifold_recall_private"),
        *("hull_overlap_erased", "manifold_precision_erased", "manifold_recall_erased", "distance_ratio"),
        *("knowledge_extraction_train_accuracy", "knowledge_extraction_test_accuracy"),
    }
    assert all(estimate["low"] <= estimate["value"] <= estimate["high"] for estimate in numbers.values())


def test_held_out_images_of_the_identities_attacked_measure_what_a_student_learned(world: World) -> None:
    numbers = estimates(world.judged(KnowledgeExtractionConfig(training=TrainingConfig(epochs=1, batch_size=8))))
    counts = [numbers[f"knowledge_extraction_{part}_accuracy"]["n"] for part in ("train", "test")]
    assert counts == [6 * ATTACKED, 2 * ATTACKED]  # of 8 images each, a quarter is held out


def test_another_extractor_gives_other_numbers_by_another_name(world: World) -> None:
    numbers = estimates(world.judged(PrdcConfig(), PrdcConfig(extractor=world.extractor()), KnnDistanceConfig()))
    assert "density_small_cnn" in numbers and "density_evaluation" in numbers
    assert numbers["density_small_cnn"]["value"] != numbers["density_evaluation"]["value"]
    alone = estimates(world.judged(KnnDistanceConfig(), name="alone"))
    assert numbers["knn_distance"] == alone["knn_distance"], "the evaluation model's features stay its own"


def test_a_metric_draws_the_same_numbers_whichever_stand_beside_it(world: World) -> None:
    drawing = (FidConfig(resamples=4), FeatureSpaceConfig(erasures=1))
    beside = estimates(world.judged(SsimConfig(), *reversed(drawing), name="beside"))
    alone = estimates(world.judged(*drawing, name="alone"))
    assert {name: beside[name] for name in alone} == alone


def test_feature_space_leaves_its_points_under_the_names_of_the_people(world: World) -> None:
    folder = world.judged(FeatureSpaceConfig(erasures=2))
    panels = json.loads((folder / "feature_space_evaluation.json").read_text())
    assert [panel["identity"] for panel in panels] == ["avatar-00000", "avatar-00001", "avatar-00002"]
    assert [len(panels[0][kind]) for kind in ("private", "erased", "reconstructed")] == [6, 12, KEPT]


def test_values_of_each_reconstruction_stand_beside_its_identity_and_restart(world: World) -> None:
    rows = load_file(world.judged(KnnDistanceConfig(), SsimConfig()) / "rows.safetensors")
    assert set(rows) == {"knn_distance", "ssim", "identities", "restarts"}
    assert rows["identities"].tolist() == [identity for identity in range(ATTACKED) for _ in range(KEPT)]
    assert len(rows["ssim"]) == ATTACKED * KEPT
