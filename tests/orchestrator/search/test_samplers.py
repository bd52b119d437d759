"""Samplers by themselves: the points they give, and what they load."""

from __future__ import annotations

import subprocess
import sys

import pytest

from orchestrator.search.samplers.base import SAMPLERS
from orchestrator.search.space import Choice, Objective, Params
from tests.support.paths import ROOT

GOALS = [Objective(metric="natural_accuracy", goal="max"), Objective(metric="gmi.attack_accuracy", goal="min")]
AREA = "defenses.0.max_area"


@pytest.mark.parametrize("kind", SAMPLERS.kinds())
def test_every_sampler_keeps_to_the_space_and_to_its_limit(kind: str) -> None:
    settings = {"kind": kind, **({"points": 5} if "points" in SAMPLERS.config_of(kind).model_fields else {})}
    config = SAMPLERS.config_of(kind).model_validate(settings)
    values = {AREA: (0.3, 0.6), "target.training.lr": (0.1, 0.2)}
    space = {path: Choice(values=listed) for path, listed in values.items()}
    sampler = SAMPLERS.build(config, space=space, objectives=GOALS)
    points: list[Params] = []
    while (params := sampler.ask(len(points))) is not None:
        points.append(params)
    assert len(points) == (config.limit or 2 * 2)
    assert all(params[path] in listed for params in points for path, listed in values.items())


def test_optuna_is_loaded_only_for_a_search_that_needs_it() -> None:
    script = (
        "import sys; from orchestrator.spec.model import Spec; Spec.model_json_schema(); print('optuna' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
