"""A head that does not answer, by a stand-in with a clock of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest


class Head:
    """Answers as it is told, and lets ten seconds go by with each question."""

    def __init__(self, *answers: bool) -> None:
        self._answers: Iterator[bool] = iter(answers)
        self.now = 0.0

    def check_alive(self, nodes: list[object], timeout: float) -> None:
        from ray.exceptions import RpcError

        self.now += 10.0
        if not next(self._answers):
            raise RpcError("no answer")


@pytest.mark.parametrize(("answers", "questions"), [((True, False, False), 3), ((False, True, False, False), 4)])
def test_a_head_is_lost_when_it_has_not_answered_for_a_while_and_not_before(
    monkeypatch: pytest.MonkeyPatch, answers: tuple[bool, ...], questions: int
) -> None:
    from orchestrator.executors.ray import head as module

    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.0)
    head, lost = Head(*answers), []
    module._watch(head, threading.Event(), lambda: lost.append(head.now), lambda: head.now)
    assert lost == [10.0 * questions]
