"""Sweeps from Python, on one finished toy sweep: the baseline and one erased point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pyarrow import parquet

import orchestrator
from orchestrator import Run, Spec, compare, load_spec, open_run, run
from orchestrator.errors import RequestError, SpecError
from tests.support.toy import TOY, write_spec

AREA = "defenses.0.max_area"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("api")
    search = {"space": {AREA: {"kind": "choice", "values": [0.6]}}, "seeds": [0]}
    return run(write_spec(folder, search=search), runs=folder / "runs", executor="inline")


def test_tables_are_those_that_were_written(finished: Run) -> None:
    for name in ("trials", "attacks", "identities"):
        written = parquet.read_table(finished.sweep.paths.table(name)).to_pandas()
        assert getattr(finished, name).equals(written)
    assert list(finished.trials["param.defenses.0.max_area"].fillna(0)) == [0, 0.6]


def test_the_frontier_holds_the_rows_of_trials_that_no_other_beats(finished: Run) -> None:
    assert set(finished.frontier()["trial"]) == set(finished.result.pareto())
    assert set(finished.frontier().columns) == set(finished.trials.columns)


def test_a_trial_gives_its_numbers_and_its_model(finished: Run) -> None:
    row = finished.trials.iloc[1]
    trial = finished.trial(row["trial"][:6])
    assert dict(trial.params) == {AREA: 0.6}
    assert trial.numbers["natural_accuracy"] == row["natural_accuracy"]
    assert trial.numbers["gmi.attack_accuracy"] == trial.attack("gmi").numbers["attack_accuracy"]
    assert trial.model()(torch.rand(2, 1, 32, 32)).shape == (2, 2)


def test_an_attack_gives_the_kept_images_of_an_identity(finished: Run) -> None:
    attack = finished.attack("gmi")
    assert attack.trial.params == {}
    images = attack.images("1")
    assert images.shape == (1, 1, 32, 32)
    assert images.min() >= 0 and images.max() <= 1
    assert not torch.equal(images, attack.images("0"))


def test_a_notebook_shows_trials_and_the_report(finished: Run) -> None:
    html = finished._repr_html_()
    assert str(finished.sweep.paths.report) in html and "<table" in html


def test_a_run_is_opened_again_and_is_identical_to_itself(finished: Run) -> None:
    again = open_run(finished.folder)
    numbers = compare(finished, again)
    assert len(numbers) == 2 * 3  # natural accuracy, attack accuracy and KNN distance of each trial
    assert set(numbers["verdict"]) == {"identical"}


def test_a_spec_may_be_an_object(finished: Run, tmp_path: Path) -> None:
    spec = load_spec(write_spec(tmp_path, search={"seeds": [0], "baseline": False}))
    assert isinstance(spec, Spec)
    alone = run(spec, runs=finished.folder.parent, executor="inline")
    assert list(alone.trials["status"]) == ["done"]


def test_a_spec_may_be_built_of_python_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    private = {"kind": "image_folder", "path": Path("faces"), "identities": ("a", "b")}
    spec = load_spec({**TOY, "data": {**TOY["data"], "private": private}})
    assert spec.data.private.model_dump()["path"] == str(tmp_path / "faces")
    assert spec.data.private.identities == ("a", "b")


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"attacks": [{"kind": "gmi", "step": 5}]}, "spec: attacks.0.step: unknown field. Did you mean 'steps'?"),
        ({"name": {1, 2}}, "spec: a value is no plain data: "),
    ],
)
def test_objects_that_are_no_spec_are_refused_in_one_line(changed: dict[str, Any], line: str) -> None:
    with pytest.raises(SpecError) as caught:
        run({**TOY, **changed})
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_refused_with_what_is(finished: Run) -> None:
    first, second = finished.trials["trial"]
    with pytest.raises(RequestError, match=rf"^trial .zz.: 0 finished trials .* There: {first}, {second}"):
        finished.trial("zz")
    with pytest.raises(RequestError, match=r"^attack 'gmy': there is none\. Did you mean 'gmi'"):
        finished.attack("gmy")
    with pytest.raises(RequestError, match=r"^identity '7': gmi has not attacked it\. There: 0, 1"):
        finished.attack("gmi").images("7")
    with pytest.raises(RequestError, match=r"^executor: 'slurm' is none: take ray or inline"):
        run(finished.spec, executor="slurm")
    with pytest.raises(AttributeError, match="'orchestrator' has no attribute 'walk'"):
        orchestrator.walk  # noqa: B018
