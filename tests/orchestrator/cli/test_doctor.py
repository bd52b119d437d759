"""`midre doctor`: what is broken ends with status 2 and a way out; what only costs time or comfort is a warning."""

from __future__ import annotations

import errno
import json
import os
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from orchestrator.cli.commands import app
from orchestrator.cli.doctor import store_finding
from orchestrator.errors import StoreUnavailable
from orchestrator.placement import health
from orchestrator.placement.health import Verdict
from orchestrator.placement.machine import LocalGpus
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.files import StoreFiles
from tests.support.toy import write_spec

INSTALLED = {
    "midre": ("0.2", ["torch>=2.11", "torchvision>=0.26", "pytest; extra == 'test'"]),
    "torch": ("2.14.0+cu130", []),
    "torchvision": ("0.29.1", ["torch==2.14.1"]),
}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, list[str]]]:
    """Packages with their versions and what they need, in place of those of this environment."""
    packages = dict(INSTALLED)

    def distribution(name: str) -> SimpleNamespace:
        if name not in packages:
            raise PackageNotFoundError(name)
        version, requires = packages[name]
        return SimpleNamespace(version=version, requires=requires)

    monkeypatch.setattr(health, "distribution", distribution)
    return packages


def test_two_packages_that_do_not_go_together_are_named(installed: dict[str, tuple[str, list[str]]]) -> None:
    (finding,) = health.package_findings("midre")
    assert finding.verdict is Verdict.warning
    assert (
        finding.text == "torchvision 0.29.1 needs torch==2.14.1, and 2.14.0+cu130 is installed: install the pair anew."
    )


def test_a_pair_that_goes_together_is_well(installed: dict[str, tuple[str, list[str]]]) -> None:
    installed["torch"] = ("2.14.1+cu130", [])
    (finding,) = health.package_findings("midre")
    assert (finding.verdict, finding.text) == (Verdict.ok, "torch 2.14.1+cu130, torchvision 0.29.1")


def test_a_package_that_is_missing_is_broken(installed: dict[str, tuple[str, list[str]]]) -> None:
    del installed["torchvision"]
    (finding,) = health.package_findings("midre")
    assert (finding.verdict, finding.text) == (
        Verdict.broken,
        "midre needs torchvision>=0.26, which is not installed.",
    )


def test_gpus_that_torch_cannot_use_are_a_warning() -> None:
    finding = health.gpu_finding(2, LocalGpus(without_cuda="torch 2.14.1 is a build for CPUs"))
    assert finding.verdict is Verdict.warning
    assert "2 installed that torch cannot use" in finding.text


@pytest.mark.parametrize(("free_gb", "verdict"), [(0.0625, Verdict.warning), (8.0, Verdict.ok)])
def test_a_container_with_the_usual_shared_memory_is_told_of_more(
    monkeypatch: pytest.MonkeyPatch, free_gb: float, verdict: Verdict
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free_gb * 2**30))
    finding = health.shared_memory_finding(Path("/dev/shm"))
    assert finding.verdict is verdict
    assert ("--shm-size" in finding.text) == (verdict is Verdict.warning)


@pytest.mark.parametrize(
    ("skew_s", "uncertain_s", "verdict"),
    [(0.4, 0.1, Verdict.ok), (-90.0, 0.1, Verdict.warning), (6.0, 3.0, Verdict.ok), (None, 0.0, Verdict.warning)],
)
def test_clocks_that_differ_by_more_than_could_be_told_are_a_warning(
    skew_s: float | None, uncertain_s: float, verdict: Verdict
) -> None:
    from orchestrator.executors.ray.health import clock_finding

    assert clock_finding("node tiger", skew_s, uncertain_s).verdict is verdict


def test_a_store_that_cannot_be_written_to_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(files: StoreFiles, path: str, content: bytes) -> None:
        raise StoreUnavailable(files.root, OSError(errno.EACCES, os.strerror(errno.EACCES)))

    store = ArtifactStore(tmp_path)
    assert store_finding(store).verdict is Verdict.ok
    monkeypatch.setattr(StoreFiles, "write", refuse)
    finding = store_finding(store)
    assert finding.verdict is Verdict.broken
    assert "Permission denied" in finding.text


def test_a_sound_machine_ends_with_0_and_one_where_a_run_would_fail_with_2(tmp_path: Path) -> None:
    options = ["--runs", str(tmp_path / "runs"), "--json"]
    sound = CliRunner().invoke(app, ["doctor", str(write_spec(tmp_path)), *options])
    shape = json.loads(sound.stdout)
    assert (sound.exit_code, shape["ok"]) == (0, True)
    assert {"Python", "packages", "store", "spec and data", "Ray", "MLflow"} <= {
        finding["subject"] for finding in shape["findings"]
    }
    broken = CliRunner().invoke(app, ["doctor", str(write_spec(tmp_path, target={})), *options])
    shape = json.loads(broken.stdout)
    assert (broken.exit_code, shape["ok"]) == (2, False)
    assert [finding["subject"] for finding in shape["findings"] if finding["status"] == "broken"] == ["spec"]
