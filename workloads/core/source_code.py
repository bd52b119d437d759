"""What code a module runs: digests of its syntax tree and of those of all modules of its package that it imports.

Comments, docstrings and layout have no part in them, so a digest changes only where the code does.
"""

from __future__ import annotations

import ast
import base64
import functools
import hashlib
import importlib.util
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

HERE = __name__.partition(".")[0]
"""The package of what jobs compute."""
DIGITS = 16
"""Hexadecimal digits of a digest."""


class _Module(NamedTuple):
    """One source file: its digest, and the names it imports, of modules or of what is in them."""

    digest: str
    imports: tuple[str, ...]


def code_below(module: str) -> Mapping[str, str]:
    """Digest of a module and of every one that it imports, directly or not, of this package and of its own.

    >>> list(code_below("workloads.core.words"))
    ['workloads', 'workloads.core', 'workloads.core.words']
    """
    packages = {HERE, module.partition(".")[0]}
    digests: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = None if name in digests else _file_of(name)
        if file is None:
            continue
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        source = _read(file, package, file.stat().st_mtime_ns, file.stat().st_size)
        digests[name] = source.digest
        parents = [name.rpartition(".")[0]] if "." in name else []  # importing a module runs its package first
        waiting += [other for other in (*source.imports, *parents) if other.partition(".")[0] in packages]
    return dict(sorted(digests.items()))


@functools.cache
def _file_of(module: str) -> Path | None:
    """The source file of a module; None if there is no such module, as for a class that is imported from one."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None and spec.origin.endswith(".py") else None


@functools.lru_cache(maxsize=4096)
def _read(file: Path, package: str, modified_ns: int, size: int) -> _Module:
    return parsed(file.read_text(encoding="utf-8"), package)


def parsed(source: str, package: str = "") -> _Module:
    """Digest and imports of a source text; relative imports start at `package`."""
    tree = ast.parse(source)
    imports = tuple(dict.fromkeys(_imports(tree, package)))
    text = ast.dump(_WithoutStrings().visit(tree))
    return _Module(hashlib.sha256(text.encode()).hexdigest()[:DIGITS], imports)


def _imports(node: ast.AST, package: str) -> Iterator[str]:
    """Names that are imported at run time; of `from a import b` both a and a.b, since b may be a module."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            module = importlib.util.resolve_name("." * child.level + (child.module or ""), package)
            yield module
            yield from (f"{module}.{alias.name}" for alias in child.names)
        yield from _imports(child, package)


class _WithoutStrings(ast.NodeTransformer):
    """Removes strings that stand as statements: docstrings, and those below fields."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return node


@functools.cache
def is_released(package: str, distribution_name: str) -> bool:
    """Whether a package lies where its distribution installed it, with not a byte changed.

    A checkout is not released, nor an installation that points to one.
    """
    file = _file_of(package)
    try:
        installed = distribution(distribution_name)
    except PackageNotFoundError:
        return False
    recorded = _recorded(installed, package)
    if file is None or file.resolve() not in recorded:
        return False
    return all(_sha256(path) == digest for path, digest in recorded.items())


def _recorded(installed: Distribution, package: str) -> dict[Path, str]:
    """Source files of a package that a distribution's record lists, with their digests as it writes them."""
    return {
        Path(str(installed.locate_file(file))).resolve(): file.hash.value
        for file in installed.files or ()
        if file.parts[0] == package and file.suffix == ".py" and file.hash is not None
    }


def _sha256(file: Path) -> str:
    """SHA-256 of a file as records of distributions write it; empty if there is none."""
    if not file.is_file():
        return ""
    return base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest()).rstrip(b"=").decode()
