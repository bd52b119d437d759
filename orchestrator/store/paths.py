"""File names inside a run folder and beside it: this module alone knows them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import RequestError
from workloads.core.words import first_few


@dataclass(frozen=True)
class RunPaths:
    """The files of one sweep."""

    root: Path
    """The run folder."""

    @property
    def spec(self) -> Path:
        """Copy of the spec file that the run was started from."""
        return self.root / "spec.yaml"

    @property
    def resolved(self) -> Path:
        """The spec with every default filled in, as JSON."""
        return self.root / "resolved.json"

    @property
    def ledger(self) -> Path:
        """The log of everything that happened, one JSON event a line."""
        return self.root / "ledger.jsonl"

    @property
    def summary(self) -> Path:
        """The results of the sweep as one JSON document."""
        return self.root / "results" / "summary.json"

    def table(self, name: str) -> Path:
        """The Parquet table 'trials', 'attacks' or 'identities'."""
        return self.root / "results" / f"{name}.parquet"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.root / "report" / "index.html"

    @property
    def frontier(self) -> Path:
        """The report's picture of the Pareto frontier, as a file."""
        return self.root / "report" / "frontier.png"

    @property
    def log(self) -> Path:
        """Messages of the program, for finding out what went wrong."""
        return self.root / "logs" / "midre.log"

    @property
    def status(self) -> Path:
        """What the run is doing at this moment, while a process runs it."""
        return self.root / "status.json"

    @property
    def export_lock(self) -> Path:
        """Held by the one process that sends the run to MLflow."""
        return self.root / "logs" / "mlflow.lock"

    @property
    def reruns(self) -> Path:
        """Folder of trials that `midre rerun` computed again."""
        return self.root / "reruns"


@dataclass(frozen=True)
class Workspace:
    """The folder that runs share: `--runs`, `MIDRE_RUNS` or ./runs."""

    root: Path

    def run(self, sweep: str) -> RunPaths:
        """Paths of the run of a sweep with this name."""
        return RunPaths(self.root / sweep)

    def runs(self) -> list[RunPaths]:
        """The runs that are here, by name."""
        folders = sorted(self.root.iterdir()) if self.root.is_dir() else []
        return [paths for paths in map(RunPaths, folders) if paths.resolved.is_file()]

    def find(self, name: str) -> RunPaths:
        """The run whose name is this or begins so.

        Raises:
            RequestError: if there is none, or several.
        """
        names = [paths.root.name for paths in self.runs()]
        matches = [name] if name in names else [other for other in names if other.startswith(name)]
        if len(matches) == 1:
            return self.run(matches[0])
        if not matches:
            raise RequestError(f"{name}: no run folder, and no run in {self.root} begins so; `midre runs` lists them.")
        several = f"{len(matches)} runs in {self.root} begin so: {first_few(matches)}"
        raise RequestError(f"{name}: {several}. Write more of the name.")

    @property
    def store(self) -> Path:
        """Folder of the artifacts, where the spec names no other."""
        return self.root / "store"

    @property
    def mlflow_database(self) -> Path:
        """File of the MLflow database, where neither spec nor shell names another."""
        return (self.root / "mlflow.db").absolute()

    @property
    def mlflow_uri(self) -> str:
        """Address of that database."""
        return f"sqlite:///{_in_uri(self.mlflow_database)}"

    @property
    def mlflow_artifacts(self) -> Path:
        """Folder for files that MLflow keeps."""
        return (self.root / "mlflow-artifacts").absolute()


def _in_uri(path: Path) -> str:
    """A path as a URI holds it, where `%`, `?` and `#` mean something else."""
    return str(path).replace("%", "%25").replace("?", "%3F").replace("#", "%23")


def without_password(uri: str) -> str:
    """A URI that may be shown.

    >>> without_password("https://me:secret@host/path")
    'https://***@host/path'
    """
    return re.sub(r"//[^/@]*@", "//***@", uri)
