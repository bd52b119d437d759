"""Numerics of a job: deterministic operations, precision, and what is recorded of both."""

from __future__ import annotations

import os
import warnings

import pytest
import torch
from torch import Tensor

from workloads.core import numerics
from workloads.core.numerics import Precision, arithmetic, deterministic

CPU = torch.device("cpu")


def put_without_accumulating() -> Tensor:
    """Run an operation that has no deterministic form, on CPUs neither."""
    return torch.zeros(4).put_(torch.tensor([0, 1]), torch.ones(2))


@pytest.fixture
def as_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(numerics.STRICT_VARIABLE)


def test_an_operation_without_a_deterministic_form_fails_in_tests() -> None:
    with deterministic(), pytest.raises(RuntimeError, match="put_ does not have a deterministic implementation"):
        put_without_accumulating()


@pytest.mark.usefixtures("as_in_a_run")
def test_it_goes_on_in_a_run_and_is_recorded_in_every_job_anew() -> None:
    for _ in range(2):  # Python shows a warning once per place
        with warnings.catch_warnings(record=True) as shown, deterministic() as record:
            put_without_accumulating()
            warnings.warn("something else", stacklevel=1)
        assert [str(warning.message) for warning in shown] == ["something else"]
        facts = record.numerics(CPU)
        assert (facts["deterministic"], facts["nondeterministic_operations"]) == (False, ["put_"])


@pytest.mark.usefixtures("as_in_a_run")
def test_a_job_that_needs_no_such_operation_is_deterministic() -> None:
    with deterministic() as record:
        torch.rand(3, 3) @ torch.rand(3, 3)
    facts = record.numerics(CPU)
    assert (facts["deterministic"], facts["nondeterministic_operations"]) == (True, [])
    assert facts["precision"] == "fp32"
    assert (facts["threads"], facts["torch"]) == (torch.get_num_threads(), torch.__version__)
    assert facts["device"] == numerics.cpu_model() != ""


def test_every_switch_of_torch_is_set_for_a_job_and_put_back() -> None:
    before = numerics._flags()
    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = True, True
    loose = numerics._flags()
    with deterministic():
        inside = numerics._flags()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert numerics._flags() == loose
    numerics._set_flags(before)
    assert inside.deterministic and inside.cudnn
    assert not (inside.benchmark or inside.matmul_tf32 or inside.cudnn_tf32)


def test_attention_on_gpus_is_computed_by_matrix_products_and_on_cpus_as_before() -> None:
    """Fused kernels, by their warning, default to an algorithm that is not, unless all without one is to fail."""
    usual = numerics._flags().fused_attention
    assert any(usual)
    with deterministic(torch.device("cuda")):
        assert numerics._flags().fused_attention == (False, False, False)
        assert torch.backends.cuda.math_sdp_enabled()
    with deterministic(CPU):
        assert numerics._flags().fused_attention == usual
    assert numerics._flags().fused_attention == usual


def test_a_workspace_that_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with deterministic():
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_forward_passes_alone_run_in_half_precision(precision: Precision, dtype: torch.dtype) -> None:
    matrix = torch.rand(3, 3)
    with arithmetic(precision, CPU) as forward:
        with forward:
            assert (matrix @ matrix).dtype == dtype
        assert (matrix @ matrix).dtype == torch.float32
        with forward:  # as often as needed
            assert (matrix @ matrix).dtype == dtype


def tf32() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def test_tf32_is_on_where_it_is_asked_for_and_nowhere_else() -> None:
    with deterministic() as record:
        assert tf32() == (False, False)
        with arithmetic("tf32", CPU):
            assert tf32() == (True, True)
            with arithmetic("fp32", CPU):
                assert tf32() == (False, False)
            assert tf32() == (True, True)
        assert tf32() == (False, False)
    assert record.numerics(CPU)["precision"] == "fp32, tf32"
