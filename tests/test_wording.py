"""Plain words: names that say nothing are not used, and what is public says what it is for."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.support.paths import ROOT

Function = ast.FunctionDef | ast.AsyncFunctionDef
NAMES_THAT_SAY_NOTHING = {"own", "made", "asked", "given", "found", "known", "whole", "what", "each"}
TREES = {
    file.relative_to(ROOT).as_posix(): ast.parse(file.read_text(encoding="utf-8"))
    for package in ("orchestrator", "workloads", "tests")
    for file in sorted((ROOT / package).rglob("*.py"))
}
CODE = {file: tree for file, tree in TREES.items() if not file.startswith("tests/")}


def names_given(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The line and name of every class, function, parameter, and variable that is assigned to or looped over."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, Function | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id


def test_nothing_has_a_name_that_says_nothing() -> None:
    offences = [
        f"{file}:{line}: {name}"
        for file, tree in TREES.items()
        for line, name in names_given(tree)
        if name in NAMES_THAT_SAY_NOTHING
    ]
    assert not offences, "name these after the things they are:\n" + "\n".join(offences)


def test_no_docstring_begins_with_of() -> None:
    """A docstring is a sentence: "Weight of the prior loss", not "Of the prior loss"."""
    offences = [
        f"{file}:{node.lineno}: {text.value.splitlines()[0]}"
        for file, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(text := node.value, ast.Constant)
        if isinstance(text.value, str) and text.value.startswith("Of ")
    ]
    assert not offences, "write these as sentences:\n" + "\n".join(offences)


# Documentation

CLASSES = {node.name: node for tree in CODE.values() for node in tree.body if isinstance(node, ast.ClassDef)}


def bases(node: ast.ClassDef) -> Iterator[ast.ClassDef]:
    """The base classes that stand in the tree, nearest first."""
    for base in node.bases:
        name = ast.unparse(base).partition("[")[0].rpartition(".")[2]
        if name in CLASSES and CLASSES[name] is not node:
            yield CLASSES[name]
            yield from bases(CLASSES[name])


def methods(node: ast.ClassDef) -> Iterator[Function]:
    """All methods of a class, those under `if TYPE_CHECKING` included."""
    return (child for child in ast.walk(node) if isinstance(child, Function))


def public_members() -> Iterator[tuple[str, bool]]:
    """Every public class, function and method, and whether it has a docstring, its own or that of a base class."""
    for file, tree in CODE.items():
        for node in tree.body:
            if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
                continue
            yield f"{file}: {node.name}", ast.get_docstring(node) is not None
            if isinstance(node, ast.ClassDef):
                documented = {
                    method.name
                    for owner in (node, *bases(node))
                    for method in methods(owner)
                    if ast.get_docstring(method)
                }
                names = dict.fromkeys(child.name for child in node.body if isinstance(child, Function))
                yield from (
                    (f"{file}: {node.name}.{name}", name in documented) for name in names if not name.startswith("_")
                )


def test_what_is_public_is_documented() -> None:
    """95 of 100: a method that a library calls, such as `forward`, need not say so each time."""
    members = list(public_members())
    missing = [name for name, documented in members if not documented]
    share = 1 - len(missing) / len(members)
    assert share >= 0.95, f"{share:.1%} of {len(members)} have a docstring; these have none:\n" + "\n".join(missing)
