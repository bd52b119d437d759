"""Run a spec twice from nothing, and compare every number and every file of every artifact bit for bit.

Usage: python -m benchmarks.determinism SPEC [--on cpu|cuda] [--set PATH=VALUE ...]

Each run has a process, a folder and a store of its own. Left out are clock times, which artifacts hold in their
histories and manifests. Exit status 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import running
from benchmarks.running import FailedRun, Place
from orchestrator.errors import RequestError
from orchestrator.planning.graph import PlannedJob
from orchestrator.results.comparison import compare
from orchestrator.sweep import Sweep
from workloads.core.errors import MidreError
from workloads.core.numerics import device_name

HISTORY = "history.json"
"""The one file with clock times; its steps and metrics are compared."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run twice, compare and print; returns the exit status."""
    options = _parser().parse_args(arguments)
    settings = [*options.place.overrides(), *options.settings]
    with tempfile.TemporaryDirectory(prefix="midre-twice-") as folder:
        try:
            first, second = (running.run_apart(options.spec, settings, Path(folder, name)) for name in ("1", "2"))
        except (FailedRun, MidreError) as error:
            print(error, file=sys.stderr)
            return 2
        report = compared(first, second)
    device = device_name(torch.device(options.place.device))
    print(json.dumps({"spec": str(options.spec), "place": str(options.place), "device": device, **report}, indent=1))
    return int(bool(report["different"]))


def compared(first: Sweep, second: Sweep) -> dict[str, Any]:
    """How many numbers and files two runs of a sweep have in common, and which of them differ."""
    numbers = compare(*(json.loads(sweep.paths.summary.read_text(encoding="utf-8")) for sweep in (first, second)))
    files = dict(_files(first, second))
    different = [f"{row.trial} {row.name}" for row in numbers if row.verdict != "identical"]
    different += [name for name, same in files.items() if not same]
    return {"numbers": len(numbers), "files": len(files), "different": different}


def _files(first: Sweep, second: Sweep) -> Iterator[tuple[str, bool]]:
    """Name of every file that either run left, and whether both left the same."""
    for job in {job.key: job for plan in first.plans() for job in plan.jobs}.values():
        digests = [_digests(sweep, job) for sweep in (first, second)]
        for name in sorted(digests[0].keys() | digests[1].keys()):
            same = digests[0].get(name) == digests[1].get(name)
            yield f"{job.kind} {job.key[:12]} {name}", same or _same_history(name, first, second, job)


def _digests(sweep: Sweep, job: PlannedJob) -> dict[str, str]:
    """Digest of each file that a job left, by name."""
    manifest = sweep.store.verified(job.key)
    if manifest is None:
        raise RequestError(f"{sweep.id}: job {job.kind} {job.key[:12]} has no result: there is nothing to compare.")
    return {name: file.sha256 for name, file in manifest.files.items()}


def _same_history(name: str, first: Sweep, second: Sweep, job: PlannedJob) -> bool:
    if name != HISTORY:
        return False
    histories = [sweep.store.read_json(job.key, HISTORY) for sweep in (first, second)]
    timeless = [[{**row, "time": None} for row in history] for history in histories]
    return timeless[0] == timeless[1]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.determinism", description=__doc__)
    parser.add_argument("spec", type=Path)
    on = parser.add_argument("--on", dest="place", type=Place.parse, default=Place("cpu"))
    on.metavar = "DEVICE[:THREADS]"
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="PATH=VALUE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
