"""A function as target model: found by its name, tried again where that is stated, with one line where it fails."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from workloads.black_boxes.meter import QueryMeter, ServiceLimits
from workloads.black_boxes.service import Service, ServiceConfig, entry_point
from workloads.core.errors import AnswerError, BudgetError

Setter = Callable[[Callable[[Tensor], Tensor]], None]
IMAGES = torch.zeros(2, 1, 4, 4)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Setter:
    """Sets the function that stands for the service."""
    module = ModuleType("a_service")
    monkeypatch.setitem(sys.modules, "a_service", module)
    return lambda ask: vars(module).update(ask=ask)


def failing(times: int, error: Exception) -> Callable[[Tensor], Tensor]:
    """A function that raises at its first calls."""
    left = [error] * times

    def ask(images: Tensor) -> Tensor:
        if left:
            raise left.pop()
        return torch.zeros(len(images), dtype=torch.int64)

    return ask


def service(limits: ServiceLimits | None = None, meter: QueryMeter | None = None) -> tuple[Service, list[float]]:
    config = ServiceConfig(answers="labels", service="a_service:ask", service_revision="1")
    waits: list[float] = []
    limits, meter = limits or ServiceLimits(), meter or QueryMeter()
    return Service(config, ("ann", "bob"), limits=limits, meter=meter, sleep=waits.append), waits


def test_a_call_is_tried_again_after_a_stated_exception_with_growing_waits(answers: Setter) -> None:
    answers(failing(2, ConnectionResetError("away")))
    target, waits = service(ServiceLimits(retries=2, backoff_s=0.5))
    target(IMAGES)
    assert waits == [0.5, 1.0]
    assert target.sent == 6  # three calls of two images


def test_a_call_that_goes_on_failing_ends_in_one_line(answers: Setter) -> None:
    answers(failing(9, TimeoutError("too\nslow.")))
    with pytest.raises(AnswerError, match=r"^a_service:ask failed 2 times: TimeoutError: too slow\.$"):
        service(ServiceLimits(retries=1))[0](IMAGES)


def test_any_other_exception_is_not_tried_again(answers: Setter) -> None:
    answers(failing(1, KeyError("token")))
    target, waits = service()
    with pytest.raises(AnswerError, match=r"^a_service:ask failed: KeyError: 'token'\.$"):
        target(IMAGES)
    assert waits == []


def test_retries_count_and_stop_at_the_budget(answers: Setter) -> None:
    answers(failing(9, ConnectionError()))
    with pytest.raises(BudgetError, match="budget of 5 images is used up: 4 were sent"):
        service(meter=QueryMeter(budget=5))[0](IMAGES)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_package.x:ask", "no module 'no_such_package' is found: install its package on every node"),
        ("a_service:other", "a_service:other: a_service has no 'other'"),
        ("broken_service:ask", "broken_service cannot be imported: ValueError: no key"),
    ],
)
def test_a_function_that_is_not_there_is_one_line(
    name: str, message: str, answers: Setter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_service.py").write_text("raise ValueError('no key')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AnswerError, match=message):
        entry_point(name)


def test_an_exception_that_does_not_exist_is_refused(answers: Setter) -> None:
    answers(failing(0, KeyError()))
    with pytest.raises(AnswerError, match="retry_on: 'Timeout' is no exception"):
        service(ServiceLimits(retry_on=("Timeout",)))
