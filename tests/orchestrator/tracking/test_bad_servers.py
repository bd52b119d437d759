"""Runs whose MLflow server answers wrongly, late or never: they end without it, say so once, and catch up."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from benchmarks.mlflow_servers import mlflow_server
from tests.support.toy import toy_sweep

pytestmark = pytest.mark.slow
LONG_PRIOR = {"kind": "wgan_gp", "width": 2, "steps": 400, "batch_size": 8, "latent_size": 8}
"""Goes on for as long as it takes to see updates during a run."""
SLOW_S, NEVER_S = 1.5, 600.0
"""How long a server takes for an answer."""
PATIENCE_S = 5.0
"""How long the end of a run waits for a server here, instead of a minute."""
MIDRE = f"""
from orchestrator.cli import commands, publishing
publishing.SERVER_PATIENCE_S = {PATIENCE_S}
commands.main()
"""


class _BadServer(ThreadingHTTPServer):
    """Behaves as `behaviour` says, and passes requests on to a real server where that is "well" or "slow"."""

    daemon_threads = True

    def __init__(self, upstream: str, behaviour: str) -> None:
        ThreadingHTTPServer.__init__(self, ("127.0.0.1", 0), _Handler)
        self.upstream, self.behaviour = upstream, behaviour
        self.over = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: _BadServer

    def answer(self) -> None:
        body, behaviour = self.rfile.read(int(self.headers.get("Content-Length") or 0)), self.server.behaviour
        if behaviour in ("429", "500"):
            self.send_response(int(behaviour))
            self.send_header("Retry-After", "3600")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if behaviour != "well":
            self.server.over.wait(NEVER_S if behaviour == "hangs" else SLOW_S)
        if not self.server.over.is_set():
            self._pass_on(body)

    def _pass_on(self, body: bytes) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() in ("content-type", "accept")}
        call = urllib.request.Request(self.server.upstream + self.path, body or None, headers, method=self.command)
        try:
            with urllib.request.urlopen(call, timeout=60) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    with mlflow_server(folder, f"sqlite:///{folder}/mlflow.db") as uri:
        yield uri


@contextmanager
def bad_server(upstream: str, behaviour: str) -> Iterator[_BadServer]:
    server = _BadServer(upstream, behaviour)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("behaviour", ["429"])  # "500", "hangs" and "slow" pass as well, and take two minutes more
def test_a_run_goes_on_beside_a_bad_server_says_so_once_and_catches_up(
    tmp_path: Path, real: str, behaviour: str
) -> None:
    with bad_server(real, behaviour) as server:
        tracking = {"uri": server.address, "experiment": f"server-{behaviour}", "every_s": 1}
        sweep = toy_sweep(tmp_path, tmp_path / "runs", prior=LONG_PRIOR, tracking=tracking)
        command = [sys.executable, "-c", MIDRE, "run", str(tmp_path / "toy.yaml")]
        command += ["--runs", str(tmp_path / "runs"), "--executor", "inline"]
        started = time.time()
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        ended = time.time()
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert all(trial.status == "done" for trial in sweep.state().trials.values())
        last_trial = max(trial.ended_at or 0.0 for trial in sweep.state().trials.values())
        assert last_trial - started < 100, "jobs waited"
        assert ended - last_trial < 130, "the end waited"
        assert len(re.findall("The sweep goes on", done.stderr)) <= 1
        if behaviour != "slow":
            assert "midre sync" in done.stderr
        server.behaviour = "well"
        sweep.sync()
        client = MlflowClient(real)
        experiment = client.get_experiment_by_name(f"server-{behaviour}")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
        assert sorted(run.info.status for run in runs) == ["FINISHED"] * (1 + len(sweep.plans()))
        assert len({run.data.tags["midre.id"] for run in runs}) == len(runs)
