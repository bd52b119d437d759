"""Components of other packages: found by their entry points, named in keys, and missed in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from workloads.attacks.gmi import GmiConfig
from workloads.core.config import content, plugins_in
from workloads.core.errors import PluginError
from workloads.core.plugins import check_installed, import_plugins, origin
from workloads.defenses.cutout import CutoutConfig

EXAMPLE = ROOT / "examples" / "plugin"
SETTINGS = """
from workloads.core.config import ComponentConfig

class Settings(ComponentConfig):
    kind: str = "thrown_away"
"""


def install(folder: Path, module: str, source: str, *, version: str = "2.1", room: str = "metrics") -> None:
    """Put a package into a folder as pip would: a module, and what its distribution declares."""
    (folder / f"{module}.py").write_text(source)
    facts = folder / f"{module}-{version}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: {version}\n")
    (facts / "entry_points.txt").write_text(f"[midre.{room}]\nthrown_away = {module}\n")


def test_modules_that_packages_declare_for_a_room_are_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "declared_for_metrics", "")
    monkeypatch.syspath_prepend(str(tmp_path))
    import_plugins("attacks")
    assert "declared_for_metrics" not in sys.modules
    import_plugins("metrics")
    assert "declared_for_metrics" in sys.modules


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_package_that_cannot_be_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    install(tmp_path, "torn", source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError) as caught:
        import_plugins("metrics")
    assert str(caught.value) == (
        f"torn==2.1: torn, its metrics 'thrown_away', cannot be imported: {reason}: mend it, or uninstall the package."
    )


def test_package_and_version_of_a_component_are_part_of_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "keyed", SETTINGS)
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = import_module("keyed").Settings()
    assert content([settings]) == [{"kind": "thrown_away", "version": 1, "package": "keyed==2.1"}]
    assert plugins_in({"of": (settings, CutoutConfig())}) == {"keyed==2.1"}


def test_components_of_midre_come_from_no_package() -> None:
    assert origin(CutoutConfig) is None
    assert "package" not in content(CutoutConfig())
    assert plugins_in([CutoutConfig(), GmiConfig()]) == frozenset()


def test_packages_that_are_missing_or_have_another_version_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "versioned", "")
    monkeypatch.syspath_prepend(str(tmp_path))
    check_installed(["versioned==2.1"], where="node a")
    with pytest.raises(PluginError, match=r"^node a: the plug-in versioned 2\.1 is installed, not 2\.2: "):
        check_installed(["versioned==2.1", "versioned==2.2"], where="node a")
    with pytest.raises(PluginError, match=r"^node b: the plug-in lost==1 is not installed: pip install lost==1\.$"):
        check_installed(["lost==1"], where="node b")


USE = """
import json, sys
from pathlib import Path
from importlib.metadata import version
from orchestrator.executors.inline import InlineExecutor
from orchestrator.spec.loading import load_spec, resolve
from orchestrator.sweep import Sweep
from workloads.core.errors import PluginError
from workloads.defenses.base import DEFENSES

short = ["prior.steps=2", "attacks.0.steps=3", "target.training.epochs=1", "evaluation.training.epochs=1"]
sweep = Sweep.of(resolve(*load_spec(Path(sys.argv[1]), overrides=short), nodes=None), Path(sys.argv[2]))
done, folder = sweep.run(InlineExecutor(), spec_file=None).trials_done, sweep.paths.root
described = next(row for row in DEFENSES.describe() if row["kind"] == "pixelate")
sys.path = [folder for folder in sys.path if folder != sys.argv[3]]
try:
    Sweep.reopened(folder)
except PluginError as error:
    refused = str(error)
facts = {"done": done, "package": described["package"], "plugins": sweep.resolved.plugins, "refused": refused}
print(json.dumps(facts))
"""


@pytest.mark.slow
def test_the_example_is_installed_and_runs_and_is_missed_once_it_is_gone(tmp_path: Path) -> None:
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    copy = tmp_path / "plugin"
    shutil.copytree(EXAMPLE, copy)  # a build leaves files beside its sources
    subprocess.run([*pip, "--target", str(site), str(copy)], check=True)
    command = [sys.executable, "-c", USE, str(copy / "stripes.yaml"), str(tmp_path / "runs"), str(site)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{site}", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["done"] == 3
    assert facts["package"] == "midre-example==1.0"
    assert facts["plugins"] == ["midre-example==1.0"]
    assert "the plug-in midre-example==1.0 is not installed: pip install midre-example==1.0." in facts["refused"]
