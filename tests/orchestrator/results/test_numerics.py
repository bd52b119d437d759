"""What a sweep says of results that were not made alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.results.numerics import JobNumerics, numerics_rows, remarks
from orchestrator.store.artifacts import Manifest


def job(kind: str = "train_classifier", missing: str = "", **numerics: Any) -> JobNumerics:
    """How a job computed, as its manifest says."""
    usual: dict[str, Any] = {"threads": 1, "device": "Xeon", "torch": "2.14", "precision": "fp32"}
    usual |= {"deterministic": True, "nondeterministic_operations": []}
    facts = {
        "device": "cpu",
        "threads": 1,
        "numerics": usual | numerics,
        **({"missing_gpu": missing} if missing else {}),
    }
    return JobNumerics.of(Manifest("0" * 64, kind, "attempt", {}, facts))


def test_jobs_that_were_made_alike_need_no_remark() -> None:
    assert remarks([job(), job(), job("run_attack", threads=2)]) == []


@pytest.mark.parametrize(
    ("name", "value", "values"),
    [("threads", 2, "1 and 2"), ("device", "H100", "H100 and Xeon"), ("torch", "2.11", "2.11 and 2.14")],
)
def test_jobs_of_a_kind_that_were_not_are_named(name: str, value: object, values: str) -> None:
    other: dict[str, Any] = {name: value}
    (remark,) = remarks([job(), job(**other), job("run_attack")])
    assert remark.startswith(f"train_classifier: results mix {name} {values}.")


def test_precisions_may_differ_as_a_spec_asks_for_them() -> None:
    assert remarks([job(), job(precision="bf16")]) == []


def test_an_operation_without_a_deterministic_form_is_named_once() -> None:
    loose = job("run_attack", deterministic=False, nondeterministic_operations=["grid_sampler_2d_backward_cuda"])
    (remark,) = remarks([job(), loose, loose])
    assert "run_attack: deterministic: no" in remark and "grid_sampler_2d_backward_cuda" in remark
    assert dict(numerics_rows([job(), loose]))["deterministic"] == ["no (grid_sampler_2d_backward_cuda)", "yes"]


def test_a_missing_gpu_is_said_once() -> None:
    line = "gpus 0.3 asked for, torch sees no GPU on node X: ran on the CPU"
    assert remarks([job(missing=line), job("run_attack", missing=line)]) == [line]


def test_manifests_from_before_say_what_they_know() -> None:
    manifest = Manifest("0" * 64, "run_attack", "attempt", {}, {"threads": 2, "device": "cpu", "torch": "2.14"})
    old = JobNumerics.of(manifest)
    assert (old.threads, old.device, old.deterministic, old.certainty) == (2, "cpu", None, "unknown")
    assert remarks([old, replace(old, threads=1)])[0].startswith("run_attack: results mix threads 1 and 2.")
