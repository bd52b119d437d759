"""Nested dictionaries of tensors and plain values as one safetensors file: nothing in it can be executed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

State = dict[str, Any]


def save_state(path: Path, state: State) -> None:
    """Write `state` aside and move it into place, so that a reader sees all of it or none.

    Keys are strings without '/'; values are tensors, plain JSON values, or dictionaries of these.
    """
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for name, value in _flatten(state):
        if isinstance(value, Tensor):
            tensors[name] = value.detach().cpu().contiguous()
        else:
            values[name] = value
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    save_file(tensors, aside, metadata={"values": json.dumps(values)})
    with aside.open("rb") as stream:
        os.fsync(stream.fileno())
    os.replace(aside, path)


def load_state(path: Path) -> State:
    """What `save_state` wrote, with tensors on the CPU."""
    state: State = {}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - not a mapping
            # A clone is aligned; a tensor mapped from a file may not be, and matrix products then round differently.
            _put(state, name, file.get_tensor(name).clone())
        for name, value in json.loads(file.metadata()["values"]).items():
            _put(state, name, value)
    return state


def _flatten(state: State, prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in state.items():
        assert "/" not in key, key
        if isinstance(value, dict) and value:
            rows += _flatten(value, f"{prefix}{key}/")
        else:
            rows.append((f"{prefix}{key}", value))
    return rows


def _put(state: State, name: str, value: Any) -> None:
    *parents, last = name.split("/")
    for parent in parents:
        state = state.setdefault(parent, {})
    state[last] = value
