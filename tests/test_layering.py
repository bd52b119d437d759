"""Which part may know which: the rules of the architecture, read off the imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter

import pytest

from tests.support.paths import ROOT
from workloads.inversion.attack import ATTACKS

MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for package in ("orchestrator", "workloads")
    for file in sorted((ROOT / package).rglob("*.py"))
}

PLACES = [ROOT / place for place in (".", "orchestrator", "workloads", "workloads/jobs")]
"""Folders below which descriptions name files."""

ONLY_IN = {
    "ray": ("orchestrator.executors.ray",),
    "mlflow": ("orchestrator.tracking",),
    "torchvision": ("workloads.models", "workloads.datasets"),
    "pyarrow": (
        "orchestrator.store",
        "orchestrator.results.parquet_tables",
        "workloads.datasets.parquet",
        "workloads.datasets.preparation",
    ),
}
"""Where a library may be imported: in these modules and below them."""

PACKAGES = ("orchestrator", "workloads")
FLOORS = (
    ("workloads.core",),
    ("workloads.datasets", "workloads.models", "workloads.recipes", "workloads.observation"),
    ("workloads.defenses", "workloads.context"),
    ("workloads.priors", "workloads.training", "workloads.black_boxes"),
    ("workloads.inversion", "workloads.metrics"),
    ("workloads.attacks", "workloads.jobs"),
    ("orchestrator.errors",),
    ("orchestrator.search", "orchestrator.placement", "orchestrator.statistics", "orchestrator.store"),
    ("orchestrator.spec",),
    ("orchestrator.planning",),
    ("orchestrator.executors", "orchestrator.results"),
    ("orchestrator.reports", "orchestrator.tracking"),
    ("orchestrator.sweep",),
    ("orchestrator.rerun",),
    ("orchestrator.cli",),
    ("orchestrator.api",),
    ("orchestrator.__main__",),
)
"""Rooms from the ground up: a module imports from its own floor and from those below it."""


def imports(module: str, *, when_loaded: bool = False) -> Iterator[str]:
    """Full names a module imports, `from a import b` as both a and a.b; all of them, or those made when it loads."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for node in _at_load(tree) if when_loaded else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module}: imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _at_load(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes outside of functions and of `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _at_load(child)


def within(name: str, places: tuple[str, ...]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


@pytest.mark.parametrize("library", ["orchestrator", "ray", "mlflow"])
def test_workloads_know_nothing_of(library: str) -> None:
    workloads = [module for module in MODULES if within(module, ("workloads",))]
    assert [module for module in workloads if any(within(name, (library,)) for name in imports(module))] == []


@pytest.mark.parametrize(("library", "places"), ONLY_IN.items(), ids=ONLY_IN)
def test_a_library_is_imported_only_where_it_belongs(library: str, places: tuple[str, ...]) -> None:
    users = [module for module in MODULES if any(within(name, (library,)) for name in imports(module))]
    assert [module for module in users if not within(module, places)] == []


def floor_of(module: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if within(module, rooms))


def test_no_import_runs_upwards() -> None:
    rooms = [module for module in MODULES if module not in PACKAGES]
    upwards = [
        f"{module} imports {name}"
        for module in rooms
        for name in imports(module)
        if name in MODULES and name not in PACKAGES and floor_of(name) > floor_of(module)
    ]
    assert upwards == []


def test_every_module_stands_in_a_room() -> None:
    loose = {module for module in MODULES if module.count(".") == 1 and MODULES[module].name != "__init__.py"}
    assert loose == {
        "orchestrator.__main__",
        "orchestrator.api",
        "orchestrator.errors",
        "orchestrator.rerun",
        "orchestrator.sweep",
        "workloads.context",
    }


def test_the_map_of_the_house_names_files_that_exist() -> None:
    maps = [file for file in MODULES.values() if file.name == "__init__.py"] + [ROOT / "README.md"]
    missing = [
        f"{file.relative_to(ROOT)}: {name}"
        for file in maps
        for name in re.findall(r"(?<![\w/.])[\w/]+\.py\b", file.read_text(encoding="utf-8"))
        if not any((folder / name).is_file() for folder in (file.parent, *PLACES))
    ]
    assert missing == []


def test_tests_of_a_room_stand_in_a_folder_of_its_name() -> None:
    tests = ROOT / "tests"
    folders = {
        file.parent.relative_to(tests)
        for package in ("orchestrator", "workloads")
        for file in (tests / package).rglob("test_*.py")
    }
    assert [folder.as_posix() for folder in folders if not (ROOT / folder / "__init__.py").is_file()] == []


def test_the_folder_of_attacks_holds_attacks_alone() -> None:
    files = {module.rpartition(".")[2] for module in MODULES if module.startswith("workloads.attacks.")}
    assert files == set(ATTACKS.kinds())


def test_no_module_imports_itself_through_others() -> None:
    imported = {module: {name for name in imports(module, when_loaded=True) if name in MODULES} for module in MODULES}
    assert len(list(TopologicalSorter(imported).static_order())) == len(MODULES)  # raises CycleError, naming the cycle


def test_the_command_line_loads_nothing_heavy_before_a_command_runs() -> None:
    script = "import sys, orchestrator.cli.commands; print(sorted({'torch', 'ray', 'mlflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
