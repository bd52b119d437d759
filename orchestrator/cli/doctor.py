"""`midre doctor`: whether a run would work here, thing by thing, before it is started."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from orchestrator.cli.opening import open_sweep
from orchestrator.cli.output import WRONG_REQUEST, print_json, stdout
from orchestrator.errors import RequestError, SpecError, StoreUnavailable, TrackingRefused, TrackingUnavailable
from orchestrator.placement.health import Finding, Verdict, machine_findings
from orchestrator.placement.machine import this_machine
from orchestrator.planning.plan import data_inputs
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.paths import Workspace, without_password
from orchestrator.sweep import Sweep, runs_folder

PROBE_BYTES = 1 << 23
SLOWEST_MB_S = 5.0
"""A store that takes less in a second keeps jobs waiting."""
STYLES = {Verdict.ok: "green", Verdict.warning: "yellow", Verdict.broken: "red"}


def examine(
    spec: Path | None, overrides: Sequence[str] | None, *, runs: Path | None, address: str | None, as_json: bool
) -> None:
    """Judge all that a run depends on, and print it, a line each.

    Args:
        spec: names store, data and MLflow; without it those of the folder of runs are judged, and no data.

    Raises:
        typer.Exit: with status 2 if something is broken, so that a run would fail.
    """
    findings = []
    for finding in _findings(spec, overrides, runs=runs, address=address):
        findings.append(finding)
        if not as_json:
            _print(finding, stdout)
    is_well = all(finding.verdict is not Verdict.broken for finding in findings)
    if as_json:
        print_json({"ok": is_well, "findings": [finding.shape() for finding in findings]})
    if not is_well:
        raise typer.Exit(WRONG_REQUEST)


def _findings(
    spec: Path | None, overrides: Sequence[str] | None, *, runs: Path | None, address: str | None
) -> Iterator[Finding]:
    yield from machine_findings()
    sweep = None
    if spec is not None:
        try:
            sweep = open_sweep(spec, overrides, runs=runs, nodes=[this_machine()])
        except SpecError as error:
            yield from (Finding("spec", Verdict.broken, problem.text(error.file)) for problem in error.problems)
        except RequestError as error:
            yield Finding("spec", Verdict.broken, str(error))
        else:
            yield Finding("spec and data", Verdict.ok, f"{spec}: nothing wrong")
    try:
        store = sweep.store if sweep else ArtifactStore(Workspace(runs_folder(runs)).store)
    except StoreUnavailable as error:
        yield Finding("store", Verdict.broken, str(error))
    else:
        yield store_finding(store)
        from orchestrator.executors.ray.health import cluster_findings  # Ray is heavy

        data = data_inputs(sweep.resolved, sweep.resolved.spec) if sweep else ()
        yield from cluster_findings(address, store, data)
    yield from _tracking_findings(sweep)


def store_finding(store: ArtifactStore) -> Finding:
    """Whether a store can be written to, and how fast."""
    started = time.monotonic()
    try:
        store.try_writing(PROBE_BYTES)
    except StoreUnavailable as error:
        return Finding("store", Verdict.broken, str(error))
    speed = PROBE_BYTES / 1e6 / max(time.monotonic() - started, 1e-6)
    text = f"{store.root} takes {speed:.0f} MB in a second"
    if speed < SLOWEST_MB_S:
        return Finding("store", Verdict.warning, f"{text}: name a faster one as storage.artifacts.")
    return Finding("store", Verdict.ok, text)


def _tracking_findings(sweep: Sweep | None) -> Iterator[Finding]:
    """Whether MLflow takes results; one that is away keeps no sweep from running."""
    if sweep is None:
        return
    if not sweep.resolved.spec.tracking.enabled:
        yield Finding("MLflow", Verdict.ok, "not asked for")
        return
    from orchestrator.tracking.client import versions  # MLflow is heavy

    uri = without_password(sweep.mlflow_uri)
    try:
        sweep.check_tracking()
        here, there = versions(sweep.mlflow_uri)
    except TrackingRefused as error:
        yield Finding("MLflow", Verdict.broken, str(error))
    except TrackingUnavailable as error:
        yield Finding("MLflow", Verdict.warning, f"{error} A sweep runs without it, and `midre sync` sends all later.")
    else:
        is_older = there is not None and there.partition(".")[0] != here.partition(".")[0]
        text = f"{here}, at {uri}" + (f" {there}" if there else "")
        verdict = Verdict.warning if is_older else Verdict.ok
        yield Finding(
            "MLflow", verdict, f"{text}: another major version: install that of the server." if is_older else text
        )


def _print(finding: Finding, console: Console) -> None:
    line = Text.assemble((f"{finding.verdict.value:<8}", STYLES[finding.verdict]), f"{finding.subject}: {finding.text}")
    console.print(line, soft_wrap=True)
