"""Put one fault after another into a copy of the repository, and see whether the tests notice it.

    python -m tests.mutation [--list] [--jobs N] [NAME ...]

A name may hold wildcards, as in `loop.*`. Exits with 1 if a fault went unnoticed.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from rich.console import Console
from rich.table import Table

from tests.mutation.mutants import MUTANTS, Mutant
from tests.support.paths import ROOT

COPIED = ("orchestrator", "workloads", "tests", "specs", "benchmarks", "docker", "pyproject.toml", "README.md")
PATIENCE_S = 1200
"""Seconds after which a fault that makes the tests hang counts as noticed."""
PASSED, FAILED, BROKEN_IMPORT = 0, 1, 2  # exit statuses of pytest


@dataclass(frozen=True)
class Verdict:
    """Whether the tests noticed a fault."""

    mutant: Mutant
    killed: bool
    by: str
    """The first test that failed."""
    seconds: float


def copied_tree(folder: Path) -> Path:
    """A copy of all that the tests need, for one fault at a time."""
    for name in COPIED:
        if (source := ROOT / name).is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    return folder


def run_tests(tree: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Exit status of pytest, and the first test that failed, if any.

    Raises:
        RuntimeError: if pytest could not run the tests at all.
    """
    # No bytecode: a file that was changed within a second to one of the same length would be taken for the old one.
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    files = [f"tests/{test}" for test in tests]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files]
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        return FAILED, f"nothing, after {PATIENCE_S} s"
    if done.returncode not in (PASSED, FAILED, BROKEN_IMPORT):
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    reported = [line for line in done.stdout.splitlines() if line.startswith(("FAILED tests/", "ERROR tests/"))]
    return done.returncode, reported[0].split(" ")[1].removeprefix("tests/") if reported else ""


def judge(mutant: Mutant, tree: Path) -> Verdict:
    """Put a fault into the tree, run the tests that have to notice it, and take it out again."""
    file = tree / mutant.file
    source = file.read_text(encoding="utf-8")
    started = time.monotonic()
    file.write_text(mutant.applied_to(source), encoding="utf-8")
    try:
        status, by = run_tests(tree, mutant.tests)
    finally:
        file.write_text(source, encoding="utf-8")
    return Verdict(mutant, status != PASSED, by, time.monotonic() - started)


def judge_all(mutants: Sequence[Mutant], folder: Path, *, jobs: int, console: Console) -> list[Verdict]:
    """The verdict on every mutant, in order; each is printed as soon as it is known."""
    trees: SimpleQueue[Path] = SimpleQueue()
    for number in range(jobs):
        trees.put(copied_tree(folder / str(number)))

    def in_some_tree(mutant: Mutant) -> Verdict:
        tree = trees.get()
        try:
            verdict = judge(mutant, tree)
        finally:
            trees.put(tree)
        console.print(f"{'killed' if verdict.killed else 'SURVIVED'} {mutant.name} {verdict.by}", highlight=False)
        return verdict

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(in_some_tree, mutants))


def tests_fail_without_a_fault(mutants: Sequence[Mutant], folder: Path) -> str:
    """The first test that fails on the source as it is, or nothing; such a test would notice any fault."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    status, by = run_tests(copied_tree(folder), tests)
    return "" if status == PASSED else by


def table_of(verdicts: Sequence[Verdict]) -> Table:
    """One row a mutant."""
    table = Table("mutant", "file", "verdict", "by", "seconds")
    for verdict in verdicts:
        seconds = f"{verdict.seconds:.0f}"
        table.add_row(
            verdict.mutant.name, verdict.mutant.file, "killed" if verdict.killed else "SURVIVED", verdict.by, seconds
        )
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="See whether tests notice faults.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants to try, wildcards allowed; all by default")
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    parser.add_argument("--jobs", type=int, default=1, help="mutants tried at once")
    options = parser.parse_args(arguments)
    console = Console(width=160 if not sys.stdout.isatty() else None)
    names = options.names or ["*"]
    mutants = [mutant for mutant in MUTANTS if any(fnmatch.fnmatchcase(mutant.name, name) for name in names)]
    if options.list:
        for mutant in mutants:
            console.print(f"{mutant.name}: {mutant.file}: {mutant.text!r} -> {mutant.replacement!r}", highlight=False)
        return 0
    with tempfile.TemporaryDirectory(prefix="midre-mutation-") as folder:
        if failing := tests_fail_without_a_fault(mutants, Path(folder, "as it is")):
            console.print(f"{failing} fails without any fault: mend it first.", highlight=False)
            return 2
        verdicts = judge_all(mutants, Path(folder), jobs=options.jobs, console=console)
    console.print(table_of(verdicts))
    killed = sum(verdict.killed for verdict in verdicts)
    console.print(f"{killed} of {len(verdicts)} killed")
    return 0 if killed == len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
