"""Sweeps whose prior is StyleGAN2: fitted in one, read from a file in the next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from orchestrator.executors.inline import InlineExecutor
from orchestrator.sweep import Sweep
from tests.support.toy import numbers, toy_sweep

SIZES = {"latent_size": 6, "style_size": 6, "mapping_layers": 1, "channel_base": 32, "channel_max": 4}
NUMBERS = {"natural_accuracy", "gmi.attack_accuracy", "gmi.knn_distance"}


def ran(folder: Path, **prior: Any) -> Sweep:
    config = {"kind": "stylegan2", **SIZES, **prior}
    sweep = toy_sweep(folder, folder / "runs", prior=config, search={"space": {}, "seeds": [0]})
    sweep.run(InlineExecutor(), spec_file=None)
    return sweep


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return ran(tmp_path_factory.mktemp("fitted"), steps=2, batch_size=4)


@pytest.fixture(scope="module")
def read(fitted: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return ran(tmp_path_factory.mktemp("read"), weights=str(prior_of(fitted) / "prior.safetensors"))


def prior_of(sweep: Sweep) -> Path:
    """The folder of the job that made the prior."""
    return sweep.store.open(next(job.key for plan in sweep.plans() for job in plan.jobs if job.kind == "fit_prior"))


def test_a_sweep_with_a_fitted_prior_ends_with_every_number(fitted: Sweep) -> None:
    assert [set(metrics) for metrics in numbers(fitted).values()] == [NUMBERS] * 2  # the defense and none


def test_a_sweep_with_a_prior_from_a_file_ends_with_every_number(read: Sweep) -> None:
    assert [set(metrics) for metrics in numbers(read).values()] == [NUMBERS] * 2


def test_a_prior_from_a_file_is_the_one_in_the_file(fitted: Sweep, read: Sweep) -> None:
    written, stored = (load_file(prior_of(sweep) / "prior.safetensors") for sweep in (fitted, read))
    assert [name for name, tensor in stored.items() if not torch.equal(tensor, written[name])] == []


def test_a_prior_from_a_file_is_not_fitted(read: Sweep) -> None:
    assert json.loads((prior_of(read) / "history.json").read_text()) == []
