"""Run the measurements and print one line of JSON for each: first the machine, then every number as it is known.

Usage: python -m benchmarks.gpu [--tiny] [--only training attacks priors sharing start]

Ours and bare loops take turns in one process, and numbers are medians over them; `sharing` starts processes as workers
are. A bare loop computes as torch does by itself; ours computes deterministically, as jobs do.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from benchmarks.gpu import attacks, priors, sharing, start, training
from benchmarks.gpu.rows import Row, Size
from workloads.core.numerics import device_name, fix_cublas_workspace

GROUPS: dict[str, Callable[[Size, torch.device], Iterator[Row]]] = {
    "training": training.rows,
    "attacks": attacks.rows,
    "priors": priors.rows,
    "sharing": sharing.rows,
    "start": start.rows,
}
NO_GPU = "torch sees no GPU on this machine: run this on one that has one, or take --tiny, which tries it out on a CPU."


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    options = _parser().parse_args(arguments)
    if not options.tiny and not torch.cuda.is_available():
        print(NO_GPU, file=sys.stderr)
        return 2
    fix_cublas_workspace()
    size: Size = "tiny" if options.tiny else "full"
    device = torch.device("cpu" if options.tiny else "cuda")
    print(json.dumps(machine(size, device)), flush=True)
    started = time.perf_counter()
    for group in options.only or GROUPS:
        for measured in GROUPS[group](size, device):
            row = measured.without_expectation() if options.tiny else measured
            elapsed = {"elapsed_s": round(time.perf_counter() - started, 1)}
            print(json.dumps(row.as_json() | elapsed), flush=True)
    return 0


def machine(size: Size, device: torch.device) -> dict[str, Any]:
    """Describe what the numbers depend on."""
    return {
        "size": size,
        "device": device_name(device),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "threads": torch.get_num_threads(),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument(
        "--tiny", action="store_true", help="run everything in tiny sizes on a CPU, to see that it runs"
    )
    parser.add_argument("--only", nargs="*", choices=list(GROUPS), help="groups to measure; all by default")
    return parser


if __name__ == "__main__":
    sys.exit(main())
