"""How long a warm worker needs from being given a job to having done its first batch."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.gpu.rows import Row, Size
from benchmarks.timing import now
from orchestrator.executors.run_job import run_job
from orchestrator.placement.nodes import Request
from orchestrator.planning.graph import PlannedJob
from orchestrator.store.artifacts import ArtifactStore
from workloads.context import DataInput
from workloads.core.config import digest
from workloads.core.randomness import generator
from workloads.datasets.base import ImageSet
from workloads.datasets.digits import DigitsConfig
from workloads.jobs.train_classifier import TrainClassifierConfig
from workloads.models.base import ModelConfig
from workloads.models.small_cnn import SmallCnnConfig
from workloads.models.vgg16_bn import Vgg16BnConfig
from workloads.recipes.optimization import TrainingConfig

ROUNDS, BATCH, CLASSES = 5, 8, 62


def rows(size: Size, device: torch.device) -> Iterator[Row]:
    """Seconds of a job of one batch until it reports it, after a first such job in the same process."""
    model: ModelConfig = Vgg16BnConfig() if size == "full" else SmallCnnConfig(width=2)
    rounds = ROUNDS if size == "full" else 1
    with tempfile.TemporaryDirectory(prefix="midre-start-") as folder:
        store = ArtifactStore(Path(folder))
        seconds = [_until_first_batch(model, seed, store, device) for seed in range(rounds + 1)][1:]
    yield Row("start", "start of a job on a warm worker", statistics.median(seconds), "s", at_most=0.3)


def _until_first_batch(model: ModelConfig, seed: int, store: ArtifactStore, device: torch.device) -> float:
    config = TrainClassifierConfig(
        role="target",
        data=DataInput(dataset=DigitsConfig(), digest=""),
        split=None,
        model=model,
        training=TrainingConfig(epochs=1, batch_size=BATCH),
        seed=seed,
    )
    job = PlannedJob(digest(["start", seed]), config.kind, config.model_dump(mode="json"), {})
    images = torch.randint(256, (BATCH, 3, 64, 64), generator=generator("benchmark", seed), dtype=torch.uint8)
    data = ImageSet(images, torch.arange(BATCH), tuple(map(str, range(CLASSES))))
    reported: list[float] = []
    started = now(device)
    run_job(
        job,
        store,
        request=Request(),
        load_images=lambda wanted: data,
        on_progress=lambda progress: reported.append(time.perf_counter()),
        device=device,
        where={},
        checkpoint_every_s=3600.0,
    )
    return reported[0] - started
