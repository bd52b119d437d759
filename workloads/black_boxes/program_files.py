"""What a program in a file would run, looked at before it is loaded: tensors alone, no files and no Python.

torch's loaders are no fence. TorchScript can read and write files (`torch.save`, `torch.from_file`), and runs while it
is loaded. `torch.export.load` unpickles what it finds, looks up any name below `torch` as a function, and evaluates
expressions as Python. Whatever is not known to compute with tensors alone is refused here.
"""

from __future__ import annotations

import ast
import io
import json
import pickle
import re
import tokenize
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from workloads.core.errors import DataError
from workloads.core.weights import LFS_POINTER

TENSOR_LIBRARIES = frozenset({"aten", "prim", "prims", "quantized", "torchvision"})
"""Namespaces of operators that compute with tensors."""
FILE_OPERATORS = frozenset({"save", "from_file"})
"""Operators of `aten` that touch files."""
PYTHON_FUNCTIONS = re.compile(r"_operator\.\w+|math\.\w+|torch\.sym_\w+")
"""Functions on numbers that exported programs call beside operators."""
EXPRESSION_NAMES = frozenset(
    {
        *("Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Mod", "PythonMod"),
        *("FloorDiv", "CleanDiv", "CeilDiv", "ModularIndexing", "Where", "And", "Or", "Not"),
        *("Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Equality", "Unequality", "Relational"),
        *("StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan"),
    }
)
"""What expressions for sizes are made of, as sympy writes them."""
EXPRESSION_NODES = (
    *(ast.Expression, ast.Call, ast.Name, ast.Constant, ast.keyword, ast.Load),
    *(ast.BinOp, ast.UnaryOp, ast.Compare, ast.operator, ast.unaryop, ast.cmpop),
)
EXPORTED_PARTS = re.compile(
    r"models/model\.json|data/weights/(weight_\d+|model_weights_config\.json)|"
    r"data/constants/(tensor_\d+|model_constants_config\.json)|data/sample_inputs/model\.pt|"
    r"archive_format|archive_version|byteorder|version|\.data/\w+"
)
"""Files in the archive of an exported program, as torch 2.8 and later write them."""
EXPORTED = ".pt2"


def check_program(file: Path) -> None:
    """Look at all that a program would run, without loading it.

    Raises:
        DataError: if it is no TorchScript or exported program, or would run anything but operators on tensors.
    """
    with file.open("rb") as stream:
        if stream.read(len(LFS_POINTER)) == LFS_POINTER:
            raise DataError(f"{file} is a Git LFS pointer, not a program: run `git lfs pull`.")
    try:
        with zipfile.ZipFile(file) as archive:
            # The suffix decides as it does where the program is loaded.
            check = _check_exported if file.suffix == EXPORTED else _check_script
            check(file, archive, _parts(file, archive))
    except zipfile.BadZipFile as error:
        raise DataError(f"{file} is no program: torch.jit.save and torch.export.save write zip archives.") from error


def _parts(file: Path, archive: zipfile.ZipFile) -> dict[str, str]:
    """Names in the archive by those without its first folder; torch may find another file if two have one name."""
    parts = {name.partition("/")[2]: name for name in archive.namelist()}
    if len({part.casefold() for part in parts}) < len(archive.namelist()):
        raise DataError(f"{file} holds two files of one name: not loaded.")
    return parts


def _check_script(file: Path, archive: zipfile.ZipFile, parts: dict[str, str]) -> None:
    """Refuse TorchScript that calls operators of other libraries, or ones that touch files.

    Its pickled parts are read by torch's own unpickler in C++, which makes tensors and script objects and no others.
    """
    sources = [name for part, name in parts.items() if part.casefold().endswith(".py")]
    if not sources:
        raise DataError(
            f"{file} is no TorchScript: give what torch.jit.save writes, .pt2 for torch.export.save, or name weights "
            "as checkpoint."
        )
    for name in sources:
        for called in _operators(archive.read(name).decode()):
            library, _, operator = called.partition(".")
            if library not in TENSOR_LIBRARIES or operator in FILE_OPERATORS:
                raise DataError(f"{file} calls {called}, which may do more than compute with tensors: not loaded.")


def _operators(source: str) -> Iterator[str]:
    """Operators that a TorchScript source names, such as `aten.relu`; `classes` stands for classes of C++."""
    try:
        tokens = [token.string for token in tokenize.generate_tokens(io.StringIO(source).readline)]
    except (tokenize.TokenError, SyntaxError):
        yield "what is no TorchScript"
        return
    tokens = ["", *(token for token in tokens if token.strip()), *[""] * 4]
    for before, token, dot, name, second_dot, operator in zip(*(tokens[start:] for start in range(6)), strict=False):
        if token == "classes" and before == ".":
            yield "classes"
        elif token == "ops" and before != ".":
            yield f"{name}.{operator}" if (dot, second_dot) == (".", ".") else "ops"
        elif token == "torch" and before != ".":
            yield f"aten.{name}" if dot == "." else "torch"


def _check_exported(file: Path, archive: zipfile.ZipFile, parts: dict[str, str]) -> None:
    """Refuse an exported program with pickled objects, with calls of anything but operators, or compiled code."""
    if "models/model.json" not in parts:
        raise DataError(f"{file} is no exported program: give what torch.export.save writes, or .pt for TorchScript.")
    for part in parts:
        if not EXPORTED_PARTS.fullmatch(part):
            raise DataError(f"{file} holds {part}, which is not loaded: export it again with torch 2.8 or later.")
    for part in ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json"):
        for name, entry in json.loads(archive.read(parts[part]))["config"].items():
            if entry["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
                raise DataError(f"{file} holds {name} as a pickled object, which is never opened: export it without.")
    if (inputs := "data/sample_inputs/model.pt") in parts:
        _check_inputs(file, archive.read(parts[inputs]))
    _check_graph(file, json.loads(archive.read(parts["models/model.json"])))


def _check_inputs(file: Path, pickled: bytes) -> None:
    """Refuse sample inputs that are more than tensors; torch would unpickle them without limits."""
    try:
        torch.load(io.BytesIO(pickled), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise DataError(f"{file} holds sample inputs other than tensors, which are never opened.") from error


def _check_graph(file: Path, program: dict[str, Any]) -> None:
    if program.get("guards_code"):
        raise DataError(f"{file} holds Python code that checks its inputs: export it without guards.")
    for name, value in _texts(program):
        if "__enum__" in value:
            raise DataError(f"{file} names an enumeration of Python, which is not looked up.")
        if name == "target" and not _is_tensor_operator(value):
            raise DataError(f"{file} calls {value}, which may do more than compute with tensors: not loaded.")
        if name == "expr_str" and not _is_size(value):
            raise DataError(f"{file} has a size that is no plain expression, {value[:60]!r}: not loaded.")


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a JSON value, with the name it stands under."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield "", key
            yield from _texts(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, name)


def _is_tensor_operator(target: str) -> bool:
    parts = target.split(".")
    if parts[:2] == ["torch", "ops"]:
        return len(parts) == 5 and parts[2] in TENSOR_LIBRARIES and parts[3] not in FILE_OPERATORS
    return PYTHON_FUNCTIONS.fullmatch(target) is not None


def _is_size(expression: str) -> bool:
    """Whether an expression only does arithmetic on named sizes."""
    try:
        nodes = list(ast.walk(ast.parse(expression, mode="eval")))
    except (SyntaxError, ValueError):
        return False
    called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return (
        all(isinstance(node, EXPRESSION_NODES) for node in nodes)
        and all(isinstance(node.func, ast.Name) for node in nodes if isinstance(node, ast.Call))
        and called <= EXPRESSION_NAMES
        and all(re.fullmatch(r"\w+", text) for text in texts)
    )
