"""Digests of code: what changes them, how far they reach, and when a package is an unmodified release."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from workloads.core.source_code import code_below, is_released, parsed

SOURCE = '''"""What it does."""
import os

LIMIT = 3
"""Where it ends."""

class Box:
    """A box."""

    side: int = 1
    """Its side."""

def double(x: int) -> int:
    """Twice as much."""
    return 2 * x  # no more
'''


def digest(source: str) -> str:
    return parsed(source).digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # no more", "  # a comment"),
        ("Twice as much.", "x times two."),
        ("Its side.", "Its side in pixels."),
        ("return 2 * x", "return (\n        2\n        * x\n    )"),
        ('"""Where it ends."""\n', ""),
        ('"""What it does."""\n', "\n\n# nothing\n"),
    ],
)
def test_comments_docstrings_and_layout_change_no_digest(old: str, new: str) -> None:
    assert SOURCE.count(old) == 1
    assert digest(SOURCE.replace(old, new)) == digest(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [("LIMIT = 3", "LIMIT = 4"), ("2 * x", "x * 2"), ("side: int = 1", "side: int = 2"), ("import os", "import sys")],
)
def test_code_changes_its_digest(old: str, new: str) -> None:
    assert digest(SOURCE.replace(old, new)) != digest(SOURCE)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package named after the test: `tint` imports `paint`, which imports `colours` inside a function."""
    name = tmp_path.name
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "tint.py").write_text(f"import math\nfrom {name}.paint import cover\nimport workloads.core.words\n")
    (folder / "paint.py").write_text(f"def cover():\n    from {name} import colours\n    return colours.RED\n")
    (folder / "colours.py").write_text("RED = 1\n")
    (folder / "unused.py").write_text("LIMIT = 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_code_is_that_of_all_modules_of_this_package_and_of_ones_own(package: Path) -> None:
    name = package.name
    here = ["workloads", "workloads.core", "workloads.core.words"]
    assert sorted(code_below(f"{name}.tint")) == sorted(
        [name, f"{name}.colours", f"{name}.paint", f"{name}.tint", *here]
    )


def test_a_change_two_imports_away_is_seen_and_elsewhere_is_not(package: Path) -> None:
    module = f"{package.name}.tint"
    before = code_below(module)
    (package / "unused.py").write_text("LIMIT = 1  # a longer file\n")
    assert code_below(module) == before
    (package / "colours.py").write_text("RED = 255\n")
    after = code_below(module)
    assert {name for name in before if before[name] != after[name]} == {f"{package.name}.colours"}


def test_relative_imports_are_followed(package: Path) -> None:
    name = package.name
    inner = package / "inner"
    inner.mkdir()
    (inner / "__init__.py").write_text("from . import near\n")
    (inner / "near.py").write_text("from ..colours import RED\n")
    (package / "tint.py").write_text("from .inner import near\n")
    assert set(code_below(f"{name}.tint")) == {
        name, f"{name}.tint", f"{name}.inner", f"{name}.inner.near", f"{name}.colours",
    }  # fmt: skip


def test_what_is_imported_for_types_alone_does_not_count(package: Path) -> None:
    name = package.name
    (package / "paint.py").write_text(
        f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from {name}.colours import RED\n"
    )
    assert f"{name}.colours" not in code_below(f"{name}.paint")


def installed(site: Path, name: str) -> Path:
    """A distribution with a package of one module, as pip leaves it; returns the module."""
    module = site / name / "__init__.py"
    module.parent.mkdir()
    module.write_text("LIMIT = 1\n")
    value = base64.urlsafe_b64encode(hashlib.sha256(module.read_bytes()).digest()).rstrip(b"=").decode()
    about = site / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "RECORD").write_text(f"{name}/__init__.py,sha256={value},10\n{name}-1.0.dist-info/METADATA,,\n")
    return module


def test_an_installed_package_is_released_until_somebody_changes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    installed(tmp_path, "untouched_package")
    assert is_released("untouched_package", "untouched_package")
    installed(tmp_path, "touched_package").write_text("LIMIT = 2\n")
    assert not is_released("touched_package", "touched_package")


def test_what_no_distribution_installed_is_not_released(package: Path) -> None:
    assert not is_released(package.name, package.name)
