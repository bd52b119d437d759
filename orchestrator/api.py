"""Sweeps from Python: run a spec, open a run, and look at its tables, its pictures and its models."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from orchestrator.cli.options import ExecutorName
from orchestrator.cli.output import stderr
from orchestrator.cli.running import executor_of, run_watched
from orchestrator.errors import RequestError
from orchestrator.placement.machine import this_machine
from orchestrator.results.comparison import compare as compare_summaries
from orchestrator.results.confirmation import Optimism, optimism
from orchestrator.results.parquet_tables import tables
from orchestrator.results.pooling import EstimateRecord
from orchestrator.results.summary import summary
from orchestrator.results.sweep_result import SweepResult, TrialResult, finished_trial
from orchestrator.spec import loading
from orchestrator.spec.hints import did_you_mean
from orchestrator.spec.model import Spec
from orchestrator.spec.yaml_source import Source
from orchestrator.sweep import Sweep
from workloads.black_boxes.stored import holds_black_box
from workloads.datasets.base import DATASETS
from workloads.models.base import Classifier
from workloads.training.classifiers import load_classifier

if TYPE_CHECKING:
    import pandas as pd


def load_spec(spec: Mapping[str, Any] | str | Path, *, settings: Mapping[str, str] | None = None) -> Spec:
    """Read a spec file, or validate a spec that is built of Python's dicts, lists and values.

    Args:
        spec: a spec file, to which its paths are relative, or what would stand in one.
        settings: values to put over those of a file, as in `run`.

    Raises:
        SpecError: with every problem of the spec.
    """
    if isinstance(spec, Mapping):
        return loading.spec_of(spec)[0]
    return loading.load_spec(Path(spec), overrides=_overrides(settings))[0]


def run(
    spec: Spec | Mapping[str, Any] | str | Path,
    *,
    settings: Mapping[str, str] | None = None,
    runs: str | Path | None = None,
    executor: str = "ray",
    address: str | None = None,
) -> Run:
    """Run a sweep on this machine or a cluster, or continue it: finished work is never done twice.

    Args:
        spec: a spec file, a `Spec`, or what would stand in a file as Python's dicts, lists and values.
        settings: values to put over those of a file by dotted path, as YAML text, such as `{"prior.steps": "500"}`.
        runs: the folder of runs; if None, that of MIDRE_RUNS, else of the spec, else ./runs.
        executor: `ray`, or `inline` for one job after another in this process.
        address: the Ray cluster to join; by default one is started on this machine.

    Raises:
        SpecError: with every problem of the spec.
        RequestError: for an executor that is none, or a cluster that cannot be joined.
        KeyboardInterrupt: if a signal stopped the run, after jobs at work have saved where they stand.
    """
    started = time.monotonic()
    if executor not in list(ExecutorName):
        raise RequestError(f"executor: {executor!r} is none: take ray or inline.")
    if isinstance(spec, Spec):
        spec_file, source = None, Source("spec", spec.plain())
    elif isinstance(spec, Mapping):
        spec_file = None
        spec, source = loading.spec_of(spec)
    else:
        spec_file = Path(spec)
        spec, source = loading.load_spec(spec_file, overrides=_overrides(settings))
    resolved = loading.resolve(spec, source, nodes=None if address else [this_machine()])
    sweep = Sweep.of(resolved, None if runs is None else Path(runs))
    chosen = executor_of(ExecutorName(executor), address, sweep)
    finished = run_watched(sweep, chosen, spec_file=spec_file, started=started, console=stderr)
    if finished.stop.is_requested:
        raise KeyboardInterrupt(f"{sweep.id} was stopped; the same call continues it")
    return Run(sweep)


def _overrides(settings: Mapping[str, str] | None) -> list[str]:
    """Settings as `--set` takes them."""
    return [f"{path}={text}" for path, text in (settings or {}).items()]


def open_run(folder: str | Path) -> Run:
    """Open a run folder, whether the run has ended or not.

    Raises:
        RequestError: if this is no run folder, or one of another version of midre.
        PluginError: if it needs a plug-in that is not installed in its version.
    """
    return Run(Sweep.reopened(Path(folder)))


def compare(then: Run, now: Run) -> pd.DataFrame:
    """Every number of a run beside the same number of another run of its sweep, such as a rerun, with a verdict."""
    import pandas as pd

    shapes = [summary(run.result, run=str(run.folder), seconds=0.0, jobs={}) for run in (then, now)]
    return pd.DataFrame(
        {
            "trial": number.trial,
            "number": number.name,
            "then": number.then["value"],
            "low": number.then["low"],
            "high": number.then["high"],
            "now": number.now["value"] if number.now else None,
            "verdict": number.verdict,
        }
        for number in compare_summaries(*shapes)
    )


@dataclass(frozen=True)
class Run:
    """A run of a sweep, as it stood when its results were first looked at."""

    sweep: Sweep

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.sweep.paths.root

    @property
    def spec(self) -> Spec:
        """The spec, every default written out."""
        return self.sweep.resolved.spec

    @cached_property
    def result(self) -> SweepResult:
        """The results as frozen records."""
        return self.sweep.result()

    @property
    def trials(self) -> pd.DataFrame:
        """A row for each trial: searched fields (`param.*`), state, numbers of the target model with intervals."""
        return self._frame("trials")

    @property
    def attacks(self) -> pd.DataFrame:
        """A row for each attack on each finished trial, with its protocol and numbers."""
        return self._frame("attacks")

    @property
    def identities(self) -> pd.DataFrame:
        """A row for each identity that an attack rebuilt, with its numbers."""
        return self._frame("identities")

    def frontier(self) -> pd.DataFrame:
        """The rows of `trials` whose points no other point beats in all objectives, by means over seeds.

        Of a search whose points were confirmed, these are the trials that confirm (`stage`).
        """
        trials = self.trials
        return trials[trials["trial"].isin(self.result.pareto())]

    def optimism(self) -> pd.DataFrame:
        """A row for each objective of each confirmed point: its gain over no defense in the search and when confirmed.

        `optimism` is the difference, between the ends of its 95 % interval.
        """
        import pandas as pd

        return pd.DataFrame(map(asdict, optimism(self.result)), columns=[field.name for field in fields(Optimism)])

    def trial(self, id: str) -> RunTrial:
        """A finished trial by its id, or by the beginning of it.

        Raises:
            RequestError: if there is none, or several.
        """
        return RunTrial(self, finished_trial(self.result, id))

    def attack(self, label: str) -> RunAttack:
        """An attack on the first finished trial, which is the one without defenses if the sweep has one.

        Raises:
            RequestError: if no trial is finished, or there is no attack of this name.
        """
        if not self.result.finished:
            raise RequestError(f"{self.folder}: no trial is finished: run it first.")
        return RunTrial(self, self.result.finished[0]).attack(label)

    def _frame(self, table: str) -> pd.DataFrame:
        frame: pd.DataFrame = tables(self.result)[table].to_pandas()
        return frame

    def _repr_html_(self) -> str:
        """What a notebook shows: the trials, and where the report is."""
        shown: str = self.trials.to_html(max_rows=20)
        return f"<p>{escape(self.sweep.id)}, report: {escape(str(self.sweep.paths.report))}</p>{shown}"


@dataclass(frozen=True)
class RunTrial:
    """One finished trial of a run."""

    run: Run
    result: TrialResult

    @property
    def params(self) -> Mapping[str, Any]:
        """The values of the searched fields, by dotted path."""
        return self.result.plan.trial.params

    @property
    def numbers(self) -> dict[str, float]:
        """Every number of the trial by its full name, such as `gmi.attack_accuracy`."""
        return {name: float(estimate["value"]) for name, estimate in self.result.estimates().items()}

    @property
    def estimates(self) -> Mapping[str, EstimateRecord]:
        """Every number by its full name with its 95 % interval: `value`, `low`, `high`, `n`, `method`, and where there
        are several judges or priors `judges_sd` and `priors_sd`, its standard deviation over them."""
        return self.result.estimates()

    def model(self, device: str | torch.device = "cpu") -> Classifier:
        """The target model as it was trained: images (B, C, H, W) in [0, 1] to logits (B, classes).

        Raises:
            RequestError: if it is a program or a service, of which only answers are known.
        """
        folder = self.run.sweep.store.open(self.result.plan.keys.target)
        if holds_black_box(folder):
            raise RequestError(
                f"trial {self.result.id}: its target model can only be asked: there is no network of it."
            )
        return load_classifier(folder, device=torch.device(device))

    def attack(self, label: str) -> RunAttack:
        """An attack on the trial's model, by its name.

        Raises:
            RequestError: if there is none.
        """
        if label not in self.result.attacks:
            labels = list(self.result.attacks)
            way_out = f"{did_you_mean(label, labels)} There: {', '.join(labels)}."
            raise RequestError(f"attack {label!r}: there is none.{way_out}")
        return RunAttack(self, label)


@dataclass(frozen=True)
class RunAttack:
    """One attack on the model of one trial."""

    trial: RunTrial
    label: str

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers of the attack by name."""
        estimates = self.trial.result.attacks[self.label].estimates
        return {name: float(estimate["value"]) for name, estimate in estimates.items()}

    def images(self, identity: str) -> Tensor:
        """The kept reconstructions of an identity, by its name. Shape: (N, C, H, W) in [0, 1].

        Raises:
            RequestError: if the attack has none of it.
        """
        names = DATASETS.build(self.trial.run.spec.data.private).names()
        attacked = [names[index] for index in self._rows["identities"].unique().tolist()]
        if identity not in attacked:
            raise RequestError(
                f"identity {identity!r}: {self.label} has not attacked it. There: {', '.join(attacked)}."
            )
        rows = self._rows
        return rows["images"][rows["kept"] & (rows["identities"] == names.index(identity))]

    @cached_property
    def _rows(self) -> dict[str, Tensor]:
        """All reconstructions, a row each."""
        folder = self.trial.run.sweep.store.open(self.trial.result.plan.keys.attacks[self.label].first.attack)
        return load_file(folder / "reconstructions.safetensors")
