"""Nested dictionaries of tensors and plain values as one safetensors file: nothing in it can be executed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from workloads.core.files import replace_when_written

State = dict[str, Any]
"""Tensors, plain JSON values, and dictionaries of these, by name.

The values are `Any`, as those of parsed JSON are: whoever wrote an entry knows its type, and a recursive union would
have to be narrowed at every use.
"""


def save_state(path: Path, state: State) -> None:
    """Write `state` so that a reader sees all of it or none, and a crash of the machine loses none of it.

    Keys are strings without '/'; values are tensors, plain JSON values, or dictionaries of these.
    """
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for name, value in _flatten(state):
        if isinstance(value, Tensor):
            tensors[name] = value.detach().cpu().contiguous()
        else:
            values[name] = value
    with replace_when_written(path, fsync=True) as temporary:
        save_file(tensors, temporary, metadata={"values": json.dumps(values)})


def load_state(path: Path) -> State:
    """Read what `save_state` wrote, with tensors on the CPU."""
    state: State = {}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - not a mapping
            # A clone is aligned; a tensor mapped from a file may not be, and matrix products then round differently.
            _insert(state, name, file.get_tensor(name).clone())
        for name, value in json.loads(file.metadata()["values"]).items():
            _insert(state, name, value)
    return state


def _flatten(state: State, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every entry with the keys that lead to it joined by '/'; an empty dictionary is an entry."""
    for key, value in state.items():
        assert "/" not in key, key
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _insert(state: State, name: str, value: Any) -> None:
    *parents, last = name.split("/")
    for parent in parents:
        state = state.setdefault(parent, {})
    state[last] = value
