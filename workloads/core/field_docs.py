"""Descriptions of config fields, read from the strings below them when a JSON schema is asked for, not at import."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
from collections.abc import Iterator


@functools.cache
def field_descriptions(cls: type) -> dict[str, str]:
    """The text of the string below each field of a class, by field name.

    A field that a subclass declares again without a string keeps the description of its base.
    """
    descriptions: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        descriptions |= _strings_by_class(base.__module__).get(base.__qualname__, {})
    return descriptions


@functools.cache
def _strings_by_class(module: str) -> dict[str, dict[str, str]]:
    """The same for the classes a module defines, by qualified name; empty for a module without Python source."""
    try:
        source = inspect.getsource(importlib.import_module(module))
    except (OSError, TypeError):
        return {}
    return {name: dict(_strings_below_fields(node)) for name, node in _classes(ast.parse(source), "")}


def _classes(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.ClassDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield prefix + child.name, child
            yield from _classes(child, f"{prefix}{child.name}.")


def _strings_below_fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, below in zip(node.body, node.body[1:], strict=False):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, " ".join(text.split())
