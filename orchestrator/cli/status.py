"""`midre status`: what a run is doing, from its ledger and from what its driver wrote last."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.cli.live_status import LiveStatus, read_live_status
from orchestrator.cli.output import print_json, print_text, stdout
from orchestrator.errors import RequestError
from orchestrator.executors.snapshot import RunningJob, Snapshot, WaitingJob, seconds_between
from orchestrator.results.cost import Cost, cost_of
from orchestrator.store.ledger import RunState, run_state
from orchestrator.store.paths import RunPaths

WATCH_EVERY_S = 2.0
LOST_AFTER_S = 30.0
"""A driver that has not written for so long is not taken to be at work."""
LAST_ERRORS = 5
MOST_WAITING = 20
"""Waiting jobs that words list; JSON has all."""


@dataclass(frozen=True)
class Status:
    """A run at a moment."""

    run: Path
    ledger: RunState
    live: LiveStatus | None
    now: float

    @staticmethod
    def of(run: Path) -> Status:
        """Read it.

        Raises:
            RequestError: if this is not a run folder.
        """
        paths = RunPaths(run)
        if not paths.resolved.is_file():
            raise RequestError(f"{run}: not a run folder: it has no {paths.resolved.name}.")
        return Status(run, run_state(paths.ledger), read_live_status(paths.status), time.time())

    @property
    def state(self) -> str:
        """'running', 'ended', or 'lost' if its driver has not been heard of for a while."""
        if self.live is None or self.live.over:
            return "ended"
        return "running" if self.now - self.live.written_at < LOST_AFTER_S else "lost"

    @property
    def snapshot(self) -> Snapshot:
        """What goes on; nothing unless the run is at work."""
        return self.live.snapshot if self.live is not None and self.state == "running" else Snapshot()

    @property
    def running(self) -> list[RunningJob]:
        """Jobs at work."""
        return [job for job in self.snapshot.running if not job.waits_for]

    @property
    def waiting(self) -> list[WaitingJob]:
        """Jobs that have not begun, and why; those whose worker cannot start come first."""
        held = [
            WaitingJob(job.key, job.kind, job.since, job.waits_for) for job in self.snapshot.running if job.waits_for
        ]
        told = [
            WaitingJob(event["key"], event["kind"], event["time"], event["reason"])
            for event in self.ledger.jobs_waiting.values()
            if self.live is None
        ]
        return [*held, *self.snapshot.waiting, *told]

    def trials(self) -> dict[str, int]:
        """Number of trials by their state."""
        statuses = [trial.status for trial in self.ledger.trials.values()]
        counts = {status: statuses.count(status) for status in ("started", "done", "failed")}
        counts["confirming"] = sum(trial.stage == "confirm" for trial in self.ledger.trials.values())
        return counts | ({"to_come": max(self.live.trials - len(statuses), 0)} if self.live else {})

    def cost(self) -> Cost:
        """What the jobs of this run that are done have occupied."""
        return cost_of(self.ledger.jobs_done.values())

    def errors(self) -> list[str]:
        """Why the trials that failed last did."""
        failed = sorted(
            (trial.ended_at or 0.0, trial.id, trial.error) for trial in self.ledger.trials.values() if trial.error
        )
        return [f"{id}: {error}" for _, id, error in failed[-LAST_ERRORS:]]

    def shape(self) -> dict[str, object]:
        """The status for programs."""
        waiting = [{"key": job.key, "kind": job.kind, "since": job.since, "reason": job.reason} for job in self.waiting]
        live = self.live
        return {
            "run": str(self.run),
            "state": self.state,
            "heard_at": live.written_at if live else self.ledger.updated_at,
            "trials": self.trials(),
            "jobs": live.jobs if live else None,
            "jobs_done": len(self.ledger.jobs_done),
            "jobs_failed": len(self.ledger.jobs_failed),
            "jobs_waiting": waiting,
            "running": [asdict(job) | {"left_s": job.left_s(self.now)} for job in self.running],
            "nodes": [asdict(node) for node in self.snapshot.nodes],
            "left_s": live.left_s if live and self.state == "running" else None,
            "cost": asdict(self.cost()),
            "trouble": self.snapshot.trouble,
            "errors": self.errors(),
        }


def print_status(run: Path, *, as_json: bool, watch: bool, events: bool) -> None:
    """Print the status of a run, or its ledger; with `watch` again and again until it ends.

    Raises:
        RequestError: if this is not a run folder.
    """
    status = Status.of(run)
    with suppress(KeyboardInterrupt):
        if events:
            _print_events(run, watch=watch)
        elif as_json:
            print_json(status.shape())
            while watch and status.state == "running":
                time.sleep(WATCH_EVERY_S)
                status = Status.of(run)
                print_json(status.shape())
        elif watch and stdout.is_terminal:
            with Live(_words(status), console=stdout, auto_refresh=False) as live:
                while status.state == "running":
                    time.sleep(WATCH_EVERY_S)
                    status = Status.of(run)
                    live.update(_words(status), refresh=True)
        else:
            stdout.print(_words(status))


def _print_events(run: Path, *, watch: bool) -> None:
    """Print the lines of a ledger, one JSON object each; with `watch` also those that come, until the run ends."""
    with RunPaths(run).ledger.open(encoding="utf-8") as ledger:
        line = ""
        while True:
            is_over = not watch or Status.of(run).state != "running"
            for part in ledger:
                line += part
                if line.endswith("\n"):  # a line without an end is still being written
                    print_text(line.rstrip("\n"))
                    line = ""
            if is_over:
                return
            stdout.file.flush()
            time.sleep(WATCH_EVERY_S)


def _words(status: Status) -> RenderableType:
    return Group(*_paragraphs(status))


def _paragraphs(status: Status) -> Iterator[RenderableType]:
    trials, live, cost = status.trials(), status.live, status.cost()
    yield Text(f"{status.run}: {_headline(status)}")
    to_come = f", {trials['to_come']} to come" if "to_come" in trials else ""
    confirm = f"; {trials['confirming']} of them confirm what the search picked" if trials["confirming"] else ""
    at_work = f"{trials['started']} at work" if status.state == "running" else f"{trials['started']} not ended"
    yield Text(f"  trials: {trials['done']} done, {trials['failed']} failed, {at_work}{to_come}{confirm}")
    done = len(status.ledger.jobs_done)
    # A search that learns is counted now and then, and may have more jobs done by then.
    of = f" of {live.jobs}" if live and live.jobs and live.jobs >= done else ""
    jobs = f"{done}{of} run, {len(status.ledger.jobs_failed)} failed"
    cached = f", {live.snapshot.jobs_cached} from the store" if live else ""
    yield Text(f"  jobs: {jobs}{cached}, {len(status.running)} at work, {len(status.waiting)} wait")
    yield Text(f"  cost so far: {cost}")
    if status.snapshot.trouble:
        yield Text(f"  {status.snapshot.trouble}")
    if status.running:
        yield _table(
            ("at work", "key", "node", "on", "step", "left", "metrics"),
            [_row(job, status.now) for job in status.running],
        )
    if status.waiting:
        rows = [
            (job.kind, job.key[:8], f"{seconds_between(job.since, status.now):.0f} s", job.reason)
            for job in status.waiting
        ]
        yield _table(("waits", "key", "for", "reason"), rows[:MOST_WAITING])
        if len(rows) > MOST_WAITING:
            yield Text(f"  and {len(rows) - MOST_WAITING} more")
    if status.snapshot.nodes:
        yield _table(
            ("node", "CPUs free", "GPUs free", "memory free"),
            (
                (
                    node.host,
                    f"{node.cpus_free:g} of {node.cpus:g}",
                    f"{node.gpus_free:g} of {node.gpus:g}",
                    f"{node.memory_gb_free:.1f} of {node.memory_gb:.1f} GiB",
                )
                for node in status.snapshot.nodes
            ),
        )
    for error in status.errors():
        yield Text(f"  {error}")


def _headline(status: Status) -> str:
    live = status.live
    if live is None or status.state == "ended":
        return "no process runs it"
    if status.state == "lost":
        ago = seconds_between(live.written_at, status.now)
        return (
            f"process {live.pid} on {live.host} has said nothing for {ago:.0f} s: it was killed, or its machine is gone"
        )
    left = f", about {live.left_s:.0f} s left" if live.left_s is not None else ""
    return f"running, process {live.pid} on {live.host}{left}"


def _row(job: RunningJob, now: float) -> Sequence[str]:
    left = job.left_s(now)
    metrics = "  ".join(f"{name} {value:.4g}" for name, value in job.metrics.items())
    step = f"{job.step}/{job.steps}" if job.steps else f"{seconds_between(job.since, now):.0f} s"
    return (job.kind, job.key[:8], job.node, job.device, step, "" if left is None else f"{left:.0f} s", metrics)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(*head, box=None, pad_edge=True)
    for row in rows:
        table.add_row(*map(Text, row))
    return table
