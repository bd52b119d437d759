"""Measure the export of a sweep to MLflow: from nothing, with nothing new, and with one new trial.

Usage: python -m benchmarks.export [--trials N] [--numbers M] [--to file|server|postgres]

The results are made up. `file` is a SQLite database that the export writes by itself, `server` an MLflow server on one,
`postgres` a server on PostgreSQL, which has to be installed; servers are started on this machine's loopback. What
MLflow holds after each export is counted through its own interface and compared with what was sent.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from benchmarks.made_up_sweep import STEPS, MadeUpSweep
from benchmarks.mlflow_servers import NoServer, mlflow_server, postgres
from orchestrator.tracking.content import PROGRESS
from orchestrator.tracking.export import export

EXPERIMENT = "midre"
PAGE = 1000
HISTORIES = 5
"""Trials whose curves are counted point by point: one request for each metric of each."""


def main() -> None:
    """Run the measurement and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--numbers", type=int, default=20)
    parser.add_argument("--to", choices=("file", "server", "postgres"), default="file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="midre-export-") as folder:
        try:
            with opened(arguments.to, Path(folder)) as uri:
                sweep = MadeUpSweep(Path(folder) / "runs", trials=arguments.trials + 1, numbers=arguments.numbers)
                sweep.end_trials(arguments.trials)
                report = measure(sweep, uri, trials=arguments.trials, numbers=arguments.numbers)
        except NoServer as error:
            sys.exit(str(error))
    print(json.dumps({"to": arguments.to, "trials": arguments.trials, "numbers": arguments.numbers, **report}))


@contextlib.contextmanager
def opened(kind: str, folder: Path) -> Iterator[str]:
    """A database or server of this kind with nothing in it; yields its URI.

    Raises:
        NoServer: if it does not start.
    """
    database = f"sqlite:///{folder}/mlflow.db"
    with contextlib.ExitStack() as stack:
        if kind == "postgres":
            database = stack.enter_context(postgres())
        yield database if kind == "file" else stack.enter_context(mlflow_server(folder, database))


def measure(sweep: MadeUpSweep, uri: str, *, trials: int, numbers: int) -> dict[str, object]:
    """Export a sweep three times, and count what is there after each.

    Raises:
        AssertionError: if something is lost, or there twice.
    """
    artifacts = None if uri.startswith("http") else Path(tempfile.gettempdir()).as_uri()
    seconds: dict[str, float] = {}
    cpu_s: dict[str, float] = {}

    def timed(name: str, expected: int) -> None:
        started, cpu = time.perf_counter(), time.process_time()
        written = export(sweep.source(), uri=uri, experiment=EXPERIMENT, artifact_location=artifacts)
        seconds[name] = round(time.perf_counter() - started, 2)
        cpu_s[name] = round(time.process_time() - cpu, 2)
        assert written == expected, (name, written)

    MlflowClient(uri).search_experiments()  # makes a new database, which takes seconds and is done once
    timed("from_nothing", trials + 1)
    check(sweep, uri, trials=trials, numbers=numbers)
    timed("nothing_new", 0)
    check(sweep, uri, trials=trials, numbers=numbers)
    sweep.end_trials(1)
    timed("one_new_trial", 2)
    check(sweep, uri, trials=trials + 1, numbers=numbers)
    rate = round(trials / seconds["from_nothing"], 1)
    machine = {"cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    return {"seconds": seconds, "cpu_seconds_of_this_process": cpu_s, "trials_per_second": rate, "machine": machine}


def check(sweep: MadeUpSweep, uri: str, *, trials: int, numbers: int) -> None:
    """Compare what MLflow holds with what was sent.

    Raises:
        AssertionError: if something is lost, or there twice.
    """
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    runs: list[Run] = []
    page: str | None = None
    while True:
        answer = client.search_runs([experiment.experiment_id], max_results=PAGE, page_token=page)
        runs += answer
        page = answer.token
        if not page:
            break
    identities = Counter(run.data.tags["midre.id"] for run in runs)
    assert len(identities) == len(runs) == trials + 1, (len(identities), len(runs))
    (of_sweep,) = (run for run in runs if run.data.tags["midre.id"] == sweep.id)
    progress = client.get_metric_history(of_sweep.info.run_id, PROGRESS)
    assert [point.step for point in progress] == list(range(1, trials + 1))
    of_trials = [run for run in runs if run.data.tags["midre.id"] != sweep.id]
    assert all(len(run.data.metrics) == numbers and run.info.status == "FINISHED" for run in of_trials)
    for run in of_trials[:HISTORIES]:
        for name in run.data.metrics:
            points = client.get_metric_history(run.info.run_id, name)
            assert len(points) == (STEPS if name.startswith("target/") else 1), (name, len(points))
    models = client.search_logged_models([experiment.experiment_id], max_results=50)
    assert len(models) == min(trials, 50)


if __name__ == "__main__":
    main()
