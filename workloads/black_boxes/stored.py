"""A black box as a folder: what is stated of it, and its program if it has one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from workloads.black_boxes.box import BlackBox
from workloads.black_boxes.meter import QueryMeter, ServiceLimits, TokenBucket
from workloads.black_boxes.program import Program, ProgramConfig
from workloads.black_boxes.service import Service, ServiceConfig
from workloads.core.config import FrozenConfig

DESCRIPTION = "black_box.json"


class BlackBoxDescription(FrozenConfig):
    """All that is needed to ask a black box."""

    source: ProgramConfig | ServiceConfig
    """What is stated of it, and where it is."""
    names: tuple[str, ...]
    """The identities, in their order."""
    channels: int
    """Channels of the images: 1 or 3."""

    def build(
        self,
        *,
        file: Path | None = None,
        device: torch.device,
        limits: ServiceLimits | None = None,
        meter: QueryMeter | None = None,
    ) -> BlackBox:
        """The black box, ready to be asked.

        Args:
            file: a copy of the program; that which the config names if None.
            limits: how a service may be asked; the defaults if None.
            meter: counts what a service is asked; one of its own if None.

        Raises:
            MidreError: if it cannot be loaded or found, or its classes are not the identities.
        """
        if isinstance(self.source, ProgramConfig):
            path = file or Path(self.source.program.file)
            return Program(self.source, self.names, channels=self.channels, file=path, device=device)
        return Service(self.source, self.names, limits=limits or ServiceLimits(), meter=meter or QueryMeter())


def save_black_box(folder: Path, description: BlackBoxDescription) -> None:
    """Write the description, and copy the program."""
    (folder / DESCRIPTION).write_text(description.model_dump_json(indent=1), encoding="utf-8")
    if isinstance(description.source, ProgramConfig):
        program = Path(description.source.program.file)
        shutil.copyfile(program, folder / f"program{program.suffix}")


def holds_black_box(folder: Path) -> bool:
    """Whether `save_black_box` wrote to a folder."""
    return (folder / DESCRIPTION).is_file()


def load_black_box(
    folder: Path,
    *,
    device: torch.device,
    limits: ServiceLimits | None = None,
    sent_by_others: int = 0,
    sent: int = 0,
    keep_sent: Callable[[int], None] = lambda sent: None,
) -> BlackBox:
    """A black box that `save_black_box` wrote, ready to be asked.

    Args:
        limits: how a service may be asked; the defaults if None.
        sent_by_others: images that other jobs sent to it, of those that the budget allows.
        sent: images that earlier tries of this job sent to it.
        keep_sent: stores the images sent so far.

    Raises:
        MidreError: if it cannot be loaded or found.
    """
    description = BlackBoxDescription.model_validate_json((folder / DESCRIPTION).read_text(encoding="utf-8"))
    limits = limits or ServiceLimits()
    bucket = TokenBucket(limits.rate) if limits.rate is not None else None
    meter = QueryMeter(limits.budget, sent_by_others, sent, keep_sent, bucket)
    file = next(iter(folder.glob("program.*")), None)
    return description.build(file=file, device=device, limits=limits, meter=meter)
