"""GPU memory of jobs nobody has run yet, worked out from their networks on torch's meta device."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from orchestrator.planning.graph import PlannedJob, TrialPlan
from workloads.core.errors import MidreError
from workloads.core.memory import GIB, kept_for_backward, weight_bytes
from workloads.datasets.base import DATASETS, DatasetConfig
from workloads.inversion.attack import AttackConfig, SearchConfig
from workloads.inversion.identity_choice import count_of
from workloads.jobs.base import JobConfig, job_from
from workloads.jobs.fit_prior import FitPriorConfig
from workloads.jobs.fit_surrogate import FitSurrogateConfig
from workloads.jobs.import_black_box import ImportBlackBoxConfig
from workloads.jobs.import_classifier import ImportClassifierConfig
from workloads.jobs.run_attack import RunAttackConfig
from workloads.jobs.train_classifier import TrainClassifierConfig
from workloads.models.base import TRAINING_ERRORS
from workloads.priors.base import PRIORS
from workloads.training.classifiers import Architecture

COPIES_IN_TRAINING = 4
"""Weights, their gradients, and the two moments of Adam."""
TEMPORARIES = 1.5
"""Gradients on their way back and workspaces of cuDNN, as a multiple of what a forward pass keeps."""
PASSES_OF_A_PRIOR = 4
"""The critic's: real images, generated ones, and those between them for its gradient penalty. And the generator's, as
a recorded graph keeps memory of its own."""
MOST_ROWS = 256
"""Rows that attacks and predictions compute at once, at most."""
ROWS = 2
"""Rows of the pass that is looked at: more than one, which batch norm refuses."""
DEFAULT_BATCH = 64
"""Images a step of a prior whose settings name no number."""


@dataclass(frozen=True)
class Cost:
    """Memory of one network, in bytes."""

    weights: int = 0
    row: int = 0
    """What a forward pass keeps for the backward pass of one row."""
    widest: int = 0
    """The largest tensor of a row, of which a pass without gradients holds a few."""

    images: int = 0
    """The data set, which lies on the GPU whole while a network is trained on it."""

    def __add__(self, other: Cost) -> Cost:
        """Two networks, one behind the other; the images that they were trained on are not needed."""
        return Cost(self.weights + other.weights, self.row + other.row, max(self.widest, other.widest))

    def of_training(self, batch_size: int) -> float:
        """Memory of a training step."""
        return self.images + COPIES_IN_TRAINING * self.weights + TEMPORARIES * batch_size * self.row

    def of_search(self, rows: int) -> float:
        """Memory of a step of an attack, which changes no weights."""
        return self.weights + TEMPORARIES * min(rows, MOST_ROWS) * self.row

    def of_prediction(self) -> float:
        """Memory of a pass without gradients."""
        return self.weights + TEMPORARIES * 2 * MOST_ROWS * self.widest


class Estimator:
    """Estimates jobs, building each network once, in one thread at a time: building seeds torch's global generator."""

    def __init__(self) -> None:
        self._costs: dict[str, Cost] = {}
        self._lock = threading.Lock()

    def estimated(self, plan: TrialPlan) -> TrialPlan:
        """The plan with an estimate for every job whose networks can be built without memory."""
        jobs = {job.key: job for job in plan.jobs}
        return replace(plan, jobs=tuple(replace(job, estimate_gb=self.estimate_gb(job, jobs)) for job in plan.jobs))

    def estimate_gb(self, job: PlannedJob, jobs: Mapping[str, PlannedJob]) -> float | None:
        """GPU memory of a job's tensors in GiB; None if its networks cannot be built without memory.

        Args:
            jobs: all jobs of its plan by key, since a job computes with the networks that others left.
        """
        try:
            with self._lock:
                inputs = sum((self._cost(jobs[key], jobs) for key in job.inputs.values()), Cost())
                return _bytes(_config(job), self._cost(job, jobs), inputs) / GIB
        except (MidreError, *TRAINING_ERRORS):  # code of libraries reads numbers, which the meta device has none of
            return None

    def _cost(self, job: PlannedJob, jobs: Mapping[str, PlannedJob]) -> Cost:
        if job.shape not in self._costs:
            self._costs[job.shape] = _cost_of(job, jobs)
        return self._costs[job.shape]


def _bytes(config: JobConfig, network: Cost, inputs: Cost) -> float:
    """Memory of a job that leaves one network, or none, and uses those among its inputs."""
    match config:
        case TrainClassifierConfig() | FitSurrogateConfig():
            return network.of_training(config.training.batch_size) + inputs.of_prediction()
        case FitPriorConfig():
            batch_size = getattr(config.prior, "batch_size", DEFAULT_BATCH)
            return network.of_training(PASSES_OF_A_PRIOR * batch_size) + inputs.of_search(batch_size)
        case RunAttackConfig():
            return inputs.of_search(_rows(config.attack))
        case _:
            return inputs.of_prediction()


def _rows(attack: AttackConfig) -> int:
    """Rows that an attack searches, as far as its settings say."""
    if isinstance(attack, SearchConfig) and attack.identities is not None:
        return count_of(attack.identities, 0) * attack.candidates_per_identity
    return MOST_ROWS


def _cost_of(job: PlannedJob, jobs: Mapping[str, PlannedJob]) -> Cost:
    """Cost of the network that a job leaves; nothing for a job that leaves images or numbers."""
    match _config(job):
        case TrainClassifierConfig() | FitSurrogateConfig() | ImportClassifierConfig():
            return _classifier_cost(job, jobs)
        case FitPriorConfig() as config:
            return _prior_cost(config, _classes_of_target(job, jobs))
        case _:
            return Cost()


def _classifier_cost(job: PlannedJob, jobs: Mapping[str, PlannedJob]) -> Cost:
    config, architecture = _config(job), _architecture(job, jobs)
    assert isinstance(config, TrainClassifierConfig | FitSurrogateConfig | ImportClassifierConfig)
    with torch.device("meta"):
        model = architecture.build()
        images = torch.zeros(ROWS, architecture.channels, architecture.image_size, architecture.image_size)
        return _measured(model, lambda: model(images.requires_grad_()), config.data.dataset)


def _prior_cost(config: FitPriorConfig, classes: int) -> Cost:
    dataset = config.data.dataset
    with torch.device("meta"):
        prior = PRIORS.build(config.prior, channels=dataset.channels, image_size=dataset.image_size, classes=classes)
        latents = torch.zeros(ROWS, prior.latent_size).requires_grad_()
        identities = torch.zeros(ROWS, dtype=torch.int64)

        def forward() -> None:
            images = prior.synthesize(prior.map(latents), identities)
            if prior.scores_realism:
                prior.realism(images)

        return _measured(prior, forward, dataset)


def _measured(network: nn.Module, forward: Callable[[], object], dataset: DatasetConfig) -> Cost:
    kept = kept_for_backward(forward)
    pixels = dataset.channels * dataset.image_size**2
    images = sum(DATASETS.build(dataset).sizes().values()) * pixels
    return Cost(weight_bytes(network), sum(kept) // ROWS, max(kept, default=0) // ROWS, images)


def _architecture(job: PlannedJob, jobs: Mapping[str, PlannedJob]) -> Architecture:
    """Architecture of the classifier that a job leaves: a surrogate has the classes of its target model."""
    config = _config(job)
    assert isinstance(config, TrainClassifierConfig | FitSurrogateConfig | ImportClassifierConfig)
    dataset, is_surrogate = config.data.dataset, isinstance(config, FitSurrogateConfig)
    return Architecture(
        model=config.model,
        classes=_classes_of_target(job, jobs) if is_surrogate else len(DATASETS.build(dataset).names()),
        channels=dataset.channels,
        image_size=dataset.image_size,
        defenses=config.defenses if isinstance(config, TrainClassifierConfig) else (),
    )


def _classes_of_target(job: PlannedJob, jobs: Mapping[str, PlannedJob]) -> int:
    """Classes of the target model among a job's inputs; 1 if there is none."""
    target = job.inputs.get("target")
    if target is None:
        return 1
    config = _config(jobs[target])
    if isinstance(config, ImportBlackBoxConfig):
        return len(DATASETS.build(config.data.dataset).names())
    return _architecture(jobs[target], jobs).classes


def _config(job: PlannedJob) -> JobConfig:
    return job_from(job.config).config
