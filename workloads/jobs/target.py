"""The target model of a job: one whose network is here, or one that can only be asked."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from workloads.black_boxes.box import BlackBox
from workloads.black_boxes.meter import ServiceLimits
from workloads.black_boxes.stored import holds_black_box, load_black_box
from workloads.context import JobContext
from workloads.models.base import Classifier
from workloads.training.classifiers import load_classifier

TargetModel = Classifier | BlackBox
SENT = "images_sent"
"""Name in `protocol.json` of the images that were sent to a service, used or not."""


def load_target(
    folder: Path, context: JobContext, *, limits: ServiceLimits | None, prepared_by: Iterable[Path] = ()
) -> TargetModel:
    """The target model in an artifact, ready to be asked.

    Args:
        limits: how it may be asked if it is a service.
        prepared_by: artifacts of the priors and surrogates of an attack, for which it was asked before.
    """
    if not holds_black_box(folder):
        return load_classifier(folder, device=context.device)
    return load_black_box(
        folder,
        device=context.device,
        limits=limits,
        sent_by_others=sum(_asked_for(prepared) for prepared in set(prepared_by)),
        sent=context.sent_by_earlier_tries,
        keep_sent=context.keep_sent,
    )


def images_sent(target_model: TargetModel) -> dict[str, int]:
    """For `protocol.json`: how many images were sent to a service over all tries; empty for any other target model."""
    counted = target_model.sent if isinstance(target_model, BlackBox) else 0
    return {SENT: counted} if counted else {}


def _asked_for(prepared: Path) -> int:
    """Images that were sent to a service to make a prior or a surrogate."""
    protocol: dict[str, int] = json.loads((prepared / "protocol.json").read_text(encoding="utf-8"))
    return protocol.get(SENT, 0)
