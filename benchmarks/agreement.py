"""Run a spec on two devices, and see whether their numbers agree as far as their 95 % intervals tell.

Usage: python -m benchmarks.agreement SPEC [--on cpu cuda] [--set PATH=VALUE ...]

Two devices round differently, and training takes the last bits to other weights, as another seed does. So numbers are
not the same, but each has an interval, and the two intervals of a number have to overlap: with independent errors, a
number that is the same on both devices fails this in 6 cases of 1000. More than one failure in a hundred numbers, and
more than one in all, ends with exit status 1. Without a GPU, one thread is compared with two.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import running
from benchmarks.running import FailedRun, Place
from orchestrator.results.comparison import Comparison, compare
from workloads.core.errors import MidreError

TOLERATED = 0.01
"""Share of numbers, rounded up to at least one, whose intervals may lie apart by chance."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run on both devices, compare and print; returns the exit status."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="midre-agreement-") as folder:
        try:
            summaries = [_summary(options.spec, place, options.settings, Path(folder)) for place in options.places]
        except (FailedRun, MidreError) as error:
            print(error, file=sys.stderr)
            return 2
    report = agreement(*summaries)
    print(json.dumps({"spec": str(options.spec), "places": list(map(str, options.places)), **report}, indent=1))
    return int(not report["agree"])


def agreement(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Every number of two summaries of one sweep side by side, and whether the summaries agree."""
    rows = compare(first, second)
    apart = [row for row in rows if not overlap(row)]
    tolerated = max(math.ceil(TOLERATED * len(rows)), 1)
    numbers = [{"trial": row.trial, "name": row.name, "first": row.then, "second": row.now} for row in rows]
    return {
        "agree": bool(rows) and len(apart) <= tolerated,
        "identical": sum(row.verdict == "identical" for row in rows),
        "apart": [f"{row.trial} {row.name}" for row in apart],
        "tolerated": tolerated,
        "numbers": numbers,
    }


def overlap(row: Comparison) -> bool:
    """Whether both runs have the number and its intervals touch."""
    return row.now is not None and row.then["low"] <= row.now["high"] and row.now["low"] <= row.then["high"]


def _summary(spec: Path, place: Place, settings: Sequence[str], folder: Path) -> dict[str, Any]:
    """The results of a run at a place."""
    sweep = running.run_apart(spec, [*place.overrides(), *settings], folder / str(place).replace(":", "-"))
    summary: dict[str, Any] = json.loads(sweep.paths.summary.read_text(encoding="utf-8"))
    return summary


def _default_places() -> list[Place]:
    return [Place("cpu"), Place("cuda")] if torch.cuda.is_available() else [Place("cpu", 1), Place("cpu", 2)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description=__doc__)
    parser.add_argument("spec", type=Path)
    on = parser.add_argument("--on", dest="places", nargs=2, type=Place.parse, default=_default_places())
    on.metavar = "DEVICE[:THREADS]"
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="PATH=VALUE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
