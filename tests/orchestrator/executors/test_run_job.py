"""Running one job: what is refused before it begins, and what its artifact says of how it was made."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.executors.inline import InlineExecutor
from orchestrator.executors.run_job import device_for, missing_gpu, read_images, run_job
from orchestrator.placement.nodes import Node, Request
from orchestrator.placement.sizing import Usage
from orchestrator.results.numerics import remarks
from orchestrator.store.ledger import read_events
from tests.support.toy import toy_sweep
from workloads.context import DataInput, JobContext
from workloads.core import numerics
from workloads.core.errors import DataError, PluginError
from workloads.datasets.base import DATASETS
from workloads.datasets.digits import DigitsConfig
from workloads.training.loop import train


def test_data_that_changed_since_the_job_was_planned_are_refused() -> None:
    config = DigitsConfig(identities=("0", "1"), image_size=32)
    digest = DATASETS.build(config).digest()
    assert read_images(DataInput(dataset=config, digest=digest)).names == ("0", "1")
    with pytest.raises(DataError, match="digits: the files changed since"):
        read_images(DataInput(dataset=config, digest="0" * 64))


def test_a_job_fails_where_a_plug_in_it_needs_is_not_installed(tmp_path: Path) -> None:
    sweep = toy_sweep(tmp_path, tmp_path / "runs")
    job = replace(sweep.plans()[0].jobs[0], plugins=("lost==1",))
    with pytest.raises(PluginError, match=f"^node {socket.gethostname()}: the plug-in lost==1 is not installed"):
        run_job(
            job,
            sweep.store,
            request=Request(),
            load_images=read_images,
            on_progress=print,
            device=torch.device("cpu"),
            where={},
            checkpoint_every_s=1,
        )
    assert sweep.store.manifest(job.key) is None


NO_GPU = f"gpus 0.3 asked for, torch sees no GPU on node {socket.gethostname()}: ran on the CPU"


def test_a_gpu_that_torch_does_not_see_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert missing_gpu(0.3, device_for(0.3)) == NO_GPU
    assert missing_gpu(0.0, device_for(0.0)) == ""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert missing_gpu(0.3, device_for(0.3)) == ""


def test_artifact_ledger_and_report_say_how_jobs_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU on paper, and an operation without a deterministic form in one kind of job."""
    monkeypatch.delenv(numerics.STRICT_VARIABLE)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def loosely(*arguments: Any, **options: Any) -> None:
        torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))
        train(*arguments, **options)

    monkeypatch.setattr("workloads.jobs.train_classifier.train", loosely)
    changes: dict[str, Any] = {"search": {"seeds": [0], "baseline": False}, "resources": {"fit_prior": {"gpus": 0.3}}}
    sweep = toy_sweep(tmp_path, tmp_path / "runs", **changes)
    sweep.run(InlineExecutor(), spec_file=None)
    events = [event for event in read_events(sweep.paths.ledger) if event["event"] == "job_done"]
    facts = {event["kind"]: event["facts"] for event in events}
    assert {kind for kind, of_kind in facts.items() if of_kind.get("missing_gpu") == NO_GPU} == {"fit_prior"}
    assert facts["train_classifier"]["numerics"] == {
        **{"threads": 1, "device": numerics.cpu_model(), "torch": torch.__version__, "precision": "fp32"},
        **{"deterministic": False, "nondeterministic_operations": ["put_"]},
    }
    assert facts["run_attack"]["numerics"]["deterministic"]
    result = sweep.result()
    assert remarks(result.numerics) == [
        "train_classifier: deterministic: no. torch has no deterministic form of put_.",
        NO_GPU,
    ]
    sweep.publish(result, seconds=0.0, jobs={"run": 0, "cached": 0, "failed": 0})
    page = sweep.paths.report.read_text(encoding="utf-8")
    assert NO_GPU in page and "no (put_)" in page


def test_a_manifest_says_what_its_job_asked_for_and_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def continued(*arguments: Any, context: JobContext, **options: Any) -> None:
        context.clock.before = 1000.0
        train(*arguments, context=context, **options)

    monkeypatch.setattr("workloads.jobs.train_classifier.train", continued)
    sweep = toy_sweep(tmp_path, tmp_path / "runs", search={"seeds": [0], "baseline": False})
    sweep.run(InlineExecutor(), spec_file=None)
    (plan,) = sweep.plans()
    job = plan.job(plan.keys.target)
    manifest = sweep.store.latest_of(job.shape)
    assert manifest is not None
    assert manifest.key == job.key
    assert 1000 < manifest.facts["seconds"] < 1100, "those of earlier tries count"
    assert manifest.facts["request"] == {"cpus": 1, "gpus": 0.0, "memory_gb": 1.0, "gpu_memory_gb": 0.0}
    resident = Usage.of(manifest.facts).memory_gb
    assert resident is not None
    assert 0.1 < resident < 16, "torch alone takes some hundred MiB"


def test_gpus_that_a_spec_leaves_to_the_machine_and_torch_cannot_use_are_named_in_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node("this machine", 2, (), 8.0, without_cuda="this machine has 1 GPU that torch cannot use: why")
    monkeypatch.setattr("orchestrator.executors.inline.this_machine", lambda: node)
    sweep = toy_sweep(tmp_path, tmp_path / "runs", search={"seeds": [0], "baseline": False})
    sweep.run(InlineExecutor(), spec_file=None)
    assert remarks(sweep.result().numerics) == [node.without_cuda]
