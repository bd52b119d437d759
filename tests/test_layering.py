"""Which part may know which: the rules of the architecture, read off the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for package in ("orchestrator", "workloads")
    for file in sorted((ROOT / package).rglob("*.py"))
}

ONLY_IN = {
    "ray": ("orchestrator.executors.ray",),
    "mlflow": ("orchestrator.tracking.mlflow",),
    "torchvision": ("workloads.models", "workloads.datasets"),
    "pyarrow": (
        "orchestrator.artifacts",
        "orchestrator.records",
        "workloads.datasets.parquet",
        "workloads.preparation",
    ),
}
"""Where a library may be imported: in these modules and below them."""


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


def test_no_module_imports_itself_through_others() -> None:
    known = {module: {name for name in imports(module, when_loaded=True) if name in MODULES} for module in MODULES}
    assert len(list(TopologicalSorter(known).static_order())) == len(MODULES)  # raises CycleError, naming the cycle


def test_the_command_line_loads_nothing_heavy_before_a_command_runs() -> None:
    script = "import sys, orchestrator.cli; print(sorted({'torch', 'ray', 'mlflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
