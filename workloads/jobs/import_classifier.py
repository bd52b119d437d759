"""Bring in a classifier that somebody else trained, so that it is attacked and judged like one trained here."""

from __future__ import annotations

from typing import Annotated, Literal

from workloads.context import DataInput, JobContext
from workloads.datasets.base import DATASETS
from workloads.jobs.base import JOBS, Job, JobConfig
from workloads.models.base import MODELS, ModelConfig
from workloads.training.checkpoint_files import CheckpointConfig, read_classifier
from workloads.training.classifiers import Architecture, save_classifier


class ImportClassifierConfig(JobConfig):
    """Which file holds the classifier, and what it is a classifier of."""

    kind: Literal["import_classifier"] = "import_classifier"
    data: DataInput
    """The private images, for the names and the shape of what it tells apart; they are not read."""
    model: Annotated[ModelConfig, MODELS]
    """Architecture."""
    source: CheckpointConfig
    """The file, and what it does not say."""


@JOBS.register(ImportClassifierConfig)
class ImportClassifier(Job):
    """Read a trained classifier, last layer included, and leave it as a training here would.

    Source: this project.
    """

    uses_gpu = False
    config: ImportClassifierConfig

    def run(self, context: JobContext) -> None:
        """Write the classifier and the names of its classes."""
        dataset = self.config.data.dataset
        names = DATASETS.build(dataset).names()
        architecture = Architecture(
            model=self.config.model, classes=len(names), channels=dataset.channels, image_size=dataset.image_size
        )
        save_classifier(context.output, read_classifier(self.config.source, architecture, names), architecture)
        context.write_json("identities.json", list(names))
        context.write_history()
