"""All processes of compose.yaml without containers: one sweep through all of them, on this machine's loopback.

PostgreSQL, an S3 server, MLflow with passwords on both, a Ray head without CPUs, two workers with a token, and `midre
run`, which joins them. Afterwards it checks that every trial is in MLflow, and that no secret stands in any file they
wrote. It needs PostgreSQL's programs, and `pip install 'midre[server,test]'`:

    python docker/rehearse.py [SPEC]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parent
HOST = "127.0.0.1"
PATIENCE_S = 60
BUCKET = "midre"
WORKERS = 2


def main() -> None:
    """Start everything, run a sweep through it, check what came of it, and stop everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", nargs="?", type=Path, default=HERE.parent / "specs" / "quickstart.yaml")
    spec = parser.parse_args().spec.absolute()
    with contextlib.ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="midre-rehearsal-", ignore_cleanup_errors=True))
        )
        folder.chmod(0o755)  # PostgreSQL runs as another user
        passwords = {name: secrets.token_hex(16) for name in ("token", "postgres", "mlflow", "s3", "flask")}
        s3 = stack.enter_context(object_store(folder, passwords["s3"]))
        database = stack.enter_context(postgres(folder, passwords["postgres"]))
        tracking = stack.enter_context(mlflow_server(folder, database, s3, passwords))
        environment = node_environment(folder, s3, passwords)
        session = Path(tempfile.mkdtemp(prefix="midre-ray-", dir="/tmp"))  # a short name, since sockets lie in it
        stack.callback(shutil.rmtree, session, ignore_errors=True)
        head = stack.enter_context(ray_nodes(folder, session, environment))
        summary = run_sweep(spec, folder, head, tracking, s3, environment)
        check_tracking(tracking, summary, environment)
        check_secrets([folder, session], passwords)


@contextlib.contextmanager
def object_store(folder: Path, password: str) -> Iterator[dict[str, str]]:
    """An S3 server with a bucket. Yields what a client has to know, as environment variables."""
    port = free_port()
    client = {
        "AWS_ACCESS_KEY_ID": "midre",
        "AWS_SECRET_ACCESS_KEY": password,
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_S3_ENDPOINT_URL": f"http://{HOST}:{port}",
    }
    with process(folder, "s3", [tool("moto_server"), "-H", HOST, "-p", str(port)], {}) as log:
        wait_for("the S3 server", log, lambda: answers(client["MLFLOW_S3_ENDPOINT_URL"]))
        call = urllib.request.Request(f"{client['MLFLOW_S3_ENDPOINT_URL']}/{BUCKET}", method="PUT")
        urllib.request.urlopen(call, timeout=10).close()
        yield client


@contextlib.contextmanager
def postgres(folder: Path, password: str) -> Iterator[str]:
    """A PostgreSQL server with an empty database. Yields its URI, password included."""
    data, port, secret = folder / "postgres", free_port(), folder / "postgres-password"
    user = "postgres" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    data.mkdir()
    secret.write_text(password)
    if user:
        for path in (data, secret):
            shutil.chown(path, user)
    init = [postgres_tool("initdb"), "-D", str(data), "-U", "midre", "-A", "scram-sha-256", "--pwfile", str(secret)]
    subprocess.run(init, check=True, user=user, stdout=subprocess.DEVNULL, cwd=data)
    secret.unlink()
    command = [postgres_tool("postgres"), "-D", str(data), "-h", HOST, "-p", str(port), "-k", str(data)]
    with process(folder, "postgres-server", command, {}, user=user) as log:
        ready = [postgres_tool("pg_isready"), "-h", HOST, "-p", str(port), "-q"]
        wait_for("PostgreSQL", log, lambda: subprocess.run(ready).returncode == 0)
        yield f"postgresql+psycopg2://midre:{password}@{HOST}:{port}/postgres"


@contextlib.contextmanager
def mlflow_server(folder: Path, database: str, s3: Mapping[str, str], passwords: Mapping[str, str]) -> Iterator[str]:
    """An MLflow server that asks for a user and a password. Yields its address."""
    port = free_port()
    settings = folder / "basic_auth.ini"
    settings.write_text(
        "[mlflow]\ndefault_permission = READ\nadmin_username = midre\n"
        f"admin_password = {passwords['mlflow']}\ndatabase_uri = sqlite:///{folder / 'users.db'}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    settings.chmod(0o600)
    environment = {
        **s3,
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": passwords["flask"],
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_BACKEND_STORE_URI": database,  # on a command line everybody could read its password
    }
    command = [tool("mlflow"), "server", "--app-name", "basic-auth", "--host", HOST, "--port", str(port)]
    command += ["--artifacts-destination", f"s3://{BUCKET}/mlflow", "--workers", "2"]
    with process(folder, "mlflow", command, environment) as log:
        wait_for("MLflow", log, lambda: answers(f"http://{HOST}:{port}/health"))
        yield f"http://{HOST}:{port}"
        settings.unlink()


def node_environment(folder: Path, s3: Mapping[str, str], passwords: Mapping[str, str]) -> dict[str, str]:
    """What every Ray node and the driver get from their environment."""
    token = folder / "ray_token"
    token.write_text(passwords["token"])
    token.chmod(0o600)
    return {
        **s3,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "MLFLOW_TRACKING_USERNAME": "midre",
        "MLFLOW_TRACKING_PASSWORD": passwords["mlflow"],
        "PYTHONPATH": str(HERE.parent),
    }


@contextlib.contextmanager
def ray_nodes(folder: Path, session: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """A head without CPUs and workers with one each. Yields the head's address."""
    port = free_port()
    start = [tool("ray"), "start", "--block", "--disable-usage-stats", f"--node-ip-address={HOST}"]
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, session, ignore_errors=True)
        head = [
            *start,
            "--head",
            f"--port={port}",
            "--num-cpus=0",
            "--include-dashboard=false",
            f"--temp-dir={session}",
        ]
        log = stack.enter_context(process(folder, "head", head, environment))
        status = [tool("ray"), "status", f"--address={HOST}:{port}"]
        everything = {**os.environ, **environment}

        def nodes() -> int:
            shown = subprocess.run(status, env=everything, capture_output=True, text=True).stdout
            return shown.count(" node_")

        wait_for("the Ray head", log, lambda: nodes() >= 1)
        for number in range(WORKERS):
            worker = [*start, f"--address={HOST}:{port}", "--num-cpus=1"]
            log = stack.enter_context(process(folder, f"worker-{number}", worker, environment))
            # One after the other, since nodes that start at once on one machine take each other's ports.
            wait_for(f"Ray worker {number}", log, lambda expected=number + 2: nodes() >= expected)
        yield f"{HOST}:{port}"


def run_sweep(
    spec: Path, folder: Path, head: str, tracking: str, s3: Mapping[str, str], environment: Mapping[str, str]
) -> dict[str, object]:
    """Run a sweep on the cluster and return its summary."""
    endpoint = s3["MLFLOW_S3_ENDPOINT_URL"].removeprefix("http://")
    settings = {
        "tracking.uri": tracking,
        "storage.artifacts": f"s3://{BUCKET}/store?endpoint_override={endpoint}&scheme=http",
    }
    command = [sys.executable, "-m", "orchestrator", "run", str(spec), "--address", head, "--json"]
    command += ["--runs", str(folder / "runs")]
    command += [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    started = time.monotonic()
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"midre run ended with status {done.returncode}: {done.stdout}")
    summary: dict[str, object] = json.loads(done.stdout)
    print(f"sweep {summary['sweep']}: {summary['jobs']} in {time.monotonic() - started:.0f} s")
    return summary


def check_tracking(tracking: str, summary: Mapping[str, object], environment: Mapping[str, str]) -> None:
    """Make sure that MLflow refuses strangers and has every trial of a sweep."""
    try:
        urllib.request.urlopen(f"{tracking}/api/2.0/mlflow/experiments/get-by-name?experiment_name=midre", timeout=10)
        raise SystemExit("MLflow answers without a password")
    except urllib.error.HTTPError as refusal:
        if refusal.code != 401:
            raise
    os.environ |= environment
    import mlflow

    mlflow.set_tracking_uri(tracking)
    runs = mlflow.search_runs(experiment_names=["midre"], output_format="list")
    trials = summary["trials"]
    assert isinstance(trials, list)
    if len(runs) != 1 + len(trials) or any(run.info.status != "FINISHED" for run in runs):
        raise SystemExit(f"MLflow has {len(runs)} runs for a sweep of {len(trials)} trials")
    print(f"MLflow: the sweep and {len(trials)} trials, all finished")


def check_secrets(folders: Sequence[Path], passwords: Mapping[str, str]) -> None:
    """Make sure that no file holds a secret, but for those that are there to hold it and PostgreSQL's own."""
    meant = {"ray_token", "basic_auth.ini"}
    files = [
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and path.name not in meant and folder / "postgres" not in path.parents
    ]
    leaks = [f"{path}: {name}" for path in files for name, secret in passwords.items() if holds(path, secret)]
    if leaks:
        raise SystemExit("secrets in files:\n" + "\n".join(leaks))
    print(f"secrets: none of {len(passwords)} in any of {len(files)} files")


def holds(file: Path, secret: str) -> bool:
    """Whether a file has a secret in it."""
    return secret.encode() in file.read_bytes()


@contextlib.contextmanager
def process(
    folder: Path, name: str, command: list[str], environment: Mapping[str, str], *, user: str | None = None
) -> Iterator[Path]:
    """Run a command for the time of a block, and stop it and all that it started. Yields the file with its output."""
    file = folder / f"{name}.log"
    with file.open("wb") as log:
        child = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env={**os.environ, **environment},
            user=user,
            cwd=folder,
            start_new_session=True,
        )
    try:
        yield file
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGINT if name == "postgres-server" else signal.SIGTERM)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)


def wait_for(what: str, log: Path, claim: Callable[[], bool]) -> None:
    """Return once `claim` holds of what writes to `log`."""
    deadline = time.monotonic() + PATIENCE_S
    while not claim():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not start within {PATIENCE_S} s:\n{log.read_text()[-2000:]}")
        time.sleep(0.5)
    print(f"{what} is there")


def answers(address: str) -> bool:
    """Whether a server answers, in whatever way."""
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


def tool(name: str) -> str:
    """A program of the environment that this Python belongs to."""
    return str(Path(sys.executable).with_name(name))


def postgres_tool(name: str) -> str:
    """A program of PostgreSQL, also where Debian keeps it out of PATH."""
    path = shutil.which(name) or next(
        iter(sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)), None
    )
    if path is None:
        raise SystemExit(f"{name}: install PostgreSQL's server programs")
    return str(path)


if __name__ == "__main__":
    main()
