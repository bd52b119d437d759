"""File names inside a run folder and beside it: this module alone knows them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunPaths:
    """Where everything of one sweep lies."""

    root: Path

    @property
    def spec(self) -> Path:
        return self.root / "spec.yaml"

    @property
    def resolved(self) -> Path:
        return self.root / "resolved.json"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.jsonl"

    @property
    def summary(self) -> Path:
        return self.root / "results" / "summary.json"

    def table(self, name: str) -> Path:
        """The Parquet table 'trials', 'attacks' or 'identities'."""
        return self.root / "results" / f"{name}.parquet"

    @property
    def report(self) -> Path:
        return self.root / "report" / "index.html"

    @property
    def frontier(self) -> Path:
        return self.root / "report" / "frontier.png"

    @property
    def log(self) -> Path:
        return self.root / "logs" / "midre.log"

    @property
    def reruns(self) -> Path:
        return self.root / "reruns"


@dataclass(frozen=True)
class Workspace:
    """The folder that runs share: `--runs`, `MIDRE_RUNS` or ./runs."""

    root: Path

    def run(self, sweep: str) -> RunPaths:
        return RunPaths(self.root / sweep)

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def mlflow_uri(self) -> str:
        return f"sqlite:///{(self.root / 'mlflow.db').absolute()}"

    @property
    def mlflow_artifacts(self) -> Path:
        return (self.root / "mlflow-artifacts").absolute()


def without_password(uri: str) -> str:
    """A URI that may be shown.

    >>> without_password("https://me:secret@host/path")
    'https://***@host/path'
    """
    return re.sub(r"//[^/@]*@", "//***@", uri)
