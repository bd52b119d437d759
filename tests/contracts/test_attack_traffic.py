"""A step of every attack leaves the device to itself: no number is read, none copied, and no generator is made."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.device_traffic import DEVICE, DeviceTraffic, traffic_counted
from tests.support.interruptions import context_at
from tests.support.searches import CLASSES, NESTED, SEARCHES, Search, access_of
from workloads.attacks.gmi import GmiConfig
from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.inversion import row_search
from workloads.inversion.attack import ATTACKS

AT_A_LOOK = 3
"""Reads at a look, every 25 steps and at the last: which rows are done, whether a loss is not finite, the mean loss."""


@dataclass
class Watched(JobContext):
    """Keeps what passed in each step, at whose end a checkpoint may be due."""

    traffic: DeviceTraffic = field(default_factory=DeviceTraffic)
    steps: list[DeviceTraffic] = field(default_factory=list)

    def checkpoint(self, state: Callable[[], State]) -> None:
        self.steps.append(copy.deepcopy(self.traffic))
        self.traffic.clear()


def steps_of(search: Search, folder: Path) -> list[DeviceTraffic]:
    """What passes in each step of a search; the first includes all that comes before it."""
    access = access_of(search, DEVICE)
    here = context_at(folder)
    with traffic_counted() as traffic:
        context = Watched(
            here.key, here.inputs, here.output, here.checkpoint_file, here.load_images, device=DEVICE, traffic=traffic
        )
        search.attack.run(access, torch.arange(CLASSES), context=context)
    return context.steps


def events(step: DeviceTraffic) -> dict[str, Any]:
    return {name: getattr(step, name) for name in ("reads", "copies", "generators", "unnamed_draws")}


WITHOUT_STEPS = {"null", "nearest_public"}
"""Attacks that look at each image once."""
QUIET: dict[str, Any] = {"reads": [], "copies": [], "generators": [], "unnamed_draws": []}


@pytest.mark.parametrize("name", SEARCHES)
def test_nothing_passes_between_host_and_device_in_a_step(tmp_path: Path, name: str) -> None:
    """In the second step of three, with which a stage of features begins, and the lessons of an agent."""
    _, second, _ = steps_of(SEARCHES[name], tmp_path)
    assert events(second) == QUIET


def test_the_host_looks_at_the_rows_every_so_many_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_search, "LOOK_EVERY", 3)
    steps = steps_of(Search(GmiConfig(steps=8), SEARCHES["gmi"].prior), tmp_path)
    assert [len(step.reads) for step in steps[1:-1]] == [0, AT_A_LOOK, 0, 0, AT_A_LOOK, 0]
    assert {len(step.copies) for step in steps[1:-1]} == {0}


def test_every_attack_is_watched() -> None:
    watched = {search.config.kind for search in SEARCHES.values()}
    assert watched | NESTED | WITHOUT_STEPS == set(ATTACKS.kinds())
