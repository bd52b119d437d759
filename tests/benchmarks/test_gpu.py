"""The benchmark of GPUs: it runs from end to end in tiny sizes, and what it says of a card is worked out by hand."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import attacks, card, sharing, training
from benchmarks.gpu.card import BusyMeter, by_torch_defaults, covered, flop, peak, utilisation
from benchmarks.gpu.rows import Row
from workloads.context import Progress
from workloads.core.numerics import deterministic

CPU = torch.device("cpu")
SETTINGS = [
    ("training", "small_cnn 8 px, batch 4"),
    *(("attacks", f"{attack}, 2 rows") for attack in ("gmi", "kedmi", "lomma", "plgmi", "ppa")),
    ("priors", "wgan_gp"),
]
"""What is measured in every precision."""
OTHERS = [
    ("priors", "stylegan2, tf32"),
    ("priors", "stylegan2, bf16"),
    ("sharing", "2 small targets at once over one by one"),
    ("start", "start of a job on a warm worker"),
]


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    """What the tiny benchmark prints."""
    printed: list[dict[str, Any]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda text, **_: printed.append(json.loads(text)))
        assert command.main(["--tiny"]) == 0
    return printed


def test_the_first_line_describes_the_machine(lines: list[dict[str, Any]]) -> None:
    assert lines[0]["size"] == "tiny"
    assert lines[0]["torch"] == torch.__version__


def test_every_number_of_every_group_is_printed(lines: list[dict[str, Any]]) -> None:
    names = {(row["group"], row["name"].rpartition(": ")[0] or row["name"]) for row in lines[1:]}
    precisions = ("fp32", "tf32", "bf16")
    by_precision = [(group, f"{setting}, {precision}") for precision in precisions for group, setting in SETTINGS]
    assert names == {*by_precision, *OTHERS}


def test_only_a_gpu_tells_how_busy_it_was_and_how_near_its_peak(lines: list[dict[str, Any]]) -> None:
    unknown = {row["name"].rpartition(": ")[2] for row in lines[1:] if row["value"] is None}
    assert unknown == {"MFU", "share of the time the GPU works"}
    assert all(row["value"] > 0 for row in lines[1:] if row["value"] is not None)
    assert all(row["reached"] is None for row in lines[1:])


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command.main([]) == 2
    assert "--tiny" in capsys.readouterr().err


def test_full_sizes_are_those_of_the_comparisons() -> None:
    cases = {(case.model.label, case.side, case.batch) for case in training.CASES["full"]}
    assert cases == {("vgg16_bn", 64, 64), ("vgg16_bn", 64, 256), ("resnet18", 224, 128)}
    assert [setting.rows for setting in attacks._settings("full", CPU)] == [300, *[60, 300, 1000] * 2]


def test_targets_share_a_card_as_it_is_and_under_mps_if_that_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    running = [False]

    @contextmanager
    def daemon() -> Iterator[None]:
        running[0] = True
        yield
        running[0] = False

    monkeypatch.setattr(sharing, "mps_runs", lambda: running[0])
    monkeypatch.setattr(sharing, "mps_daemon", daemon)
    monkeypatch.setattr(sharing, "which", lambda program: f"/usr/bin/{program}")
    monkeypatch.setattr(sharing, "_workers", lambda size, count: ThreadPoolExecutor(count))
    monkeypatch.setattr(sharing.Target, "run", lambda target, device: None)
    rows = list(sharing.rows("full", CPU))
    assert [(row.name, row.details["mps"]) for row in rows] == [
        ("8 small targets at once over one by one", False),
        ("8 small targets at once over one by one, under MPS", True),
    ]


def test_a_target_can_be_sent_to_a_process() -> None:
    target = sharing.Target()
    assert pickle.loads(pickle.dumps(target.run)).__self__ == target


def test_a_multiplication_is_two_operations_and_gradients_take_twice_as_many() -> None:
    layer, rows = nn.Linear(5, 7, bias=False), torch.rand(3, 5, requires_grad=True)
    assert flop(lambda: layer(rows)) == 2 * 3 * 5 * 7
    assert flop(lambda: layer(rows).sum().backward()) == 3 * 2 * 3 * 5 * 7


def test_utilisation_is_a_part_of_the_cards_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "device_name", lambda device: "NVIDIA H100 80GB HBM3")
    assert utilisation(989_000_000_000, 0.004, "bf16", CPU) == pytest.approx(0.25)
    assert peak("NVIDIA A100-SXM4-80GB", "tf32") == 156e12
    assert peak("NVIDIA Voodoo", "fp32") is None


def test_kernels_that_run_side_by_side_count_once() -> None:
    assert covered([(5.0, 6.0), (0.0, 2.0), (1.0, 3.0), (1.5, 1.7)]) == 4.0


class FakeProfiler:
    """Two kernels that overlap, of 2 and 2 seconds, over 3 in all, and a call on the host."""

    def __init__(self, **_: Any) -> None:
        self.calls: list[str] = []

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")

    def events(self) -> list[SimpleNamespace]:
        spans = [("CUDA", 0.0, 2e6), ("CUDA", 1e6, 3e6), ("CPU", 0.0, 9e6)]
        return [
            SimpleNamespace(device_type=SimpleNamespace(name=kind), time_range=SimpleNamespace(start=start, end=end))
            for kind, start, end in spans
        ]


def test_a_gpu_is_busy_while_kernels_run_between_the_first_and_the_second_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([10.0, 14.0])
    monkeypatch.setattr(card, "profile", FakeProfiler)
    monkeypatch.setattr(card, "now", lambda device: next(clock))
    meter = BusyMeter(torch.device("cuda"))
    shares = []
    for step in (1, 2, 3):
        meter(Progress(step, 3, {}))
        shares.append(meter.share)
    assert shares == [None, 0.75, 0.75]


def test_a_bare_loop_computes_as_torch_does_by_itself() -> None:
    seen: list[bool] = []
    with deterministic():
        by_torch_defaults(lambda: seen.append(torch.are_deterministic_algorithms_enabled()))()
        seen.append(torch.are_deterministic_algorithms_enabled())
    assert seen == [False, True]


@pytest.mark.parametrize(
    ("row", "reached"),
    [
        (Row("g", "n", 0.95, "", at_least=0.95), True),
        (Row("g", "n", 0.94, "", at_least=0.95), False),
        (Row("g", "n", 1.04, "", at_most=1.03), False),
        (Row("g", "n", 1.03, "", at_most=1.03), True),
        (Row("g", "n", None, "", at_most=1.03), None),
        (Row("g", "n", 2.0, ""), None),
    ],
)
def test_a_number_is_as_it_should_be_from_its_limit_on(row: Row, reached: bool | None) -> None:
    assert row.as_json()["reached"] is reached
    assert row.without_expectation().reached is None
