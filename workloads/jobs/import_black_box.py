"""Bring in a target model that can only be asked, so that it is attacked and judged like any other."""

from __future__ import annotations

from typing import Literal

import torch

from workloads.black_boxes.program import ProgramConfig
from workloads.black_boxes.service import ServiceConfig
from workloads.black_boxes.stored import BlackBoxDescription, save_black_box
from workloads.context import DataInput, JobContext
from workloads.datasets.base import DATASETS
from workloads.jobs.base import JOBS, Job, JobConfig


class ImportBlackBoxConfig(JobConfig):
    """Which program or service it is, and whom it tells apart."""

    kind: Literal["import_black_box"] = "import_black_box"
    data: DataInput
    """The private images, for the names and the shape of what it tells apart; they are not read."""
    source: ProgramConfig | ServiceConfig
    """The program or the service, and what is stated of it."""


@JOBS.register(ImportBlackBoxConfig)
class ImportBlackBox(Job):
    """Copy a program, or note a service, and see that it is there.

    Source: this project.
    """

    uses_gpu = False
    config: ImportBlackBoxConfig

    def run(self, context: JobContext) -> None:
        """Write what is stated, the program if there is one, and the names of the classes."""
        dataset = self.config.data.dataset
        names = DATASETS.build(dataset).names()
        description = BlackBoxDescription(source=self.config.source, names=names, channels=dataset.channels)
        description.build(device=torch.device("cpu"))
        save_black_box(context.output, description)
        context.write_json("identities.json", list(names))
        context.write_history()
