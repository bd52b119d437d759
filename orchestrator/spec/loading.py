"""From a spec file to a resolved spec: it is read, overridden, validated, and checked against data and machines."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.errors import Problem, SpecError
from orchestrator.placement.nodes import Node
from orchestrator.spec.checks.images import Watch, unwatched
from orchestrator.spec.checks.spec_problems import examine
from orchestrator.spec.extending import read_extended
from orchestrator.spec.messages import problems_of
from orchestrator.spec.model import ResolvedSpec, Spec
from orchestrator.spec.overriding import Override
from orchestrator.spec.yaml_source import Source
from workloads.core.config import plugins_in
from workloads.core.numerics import MachineKind
from workloads.core.plugins import check_installed


def load_spec(file: Path, *, overrides: Sequence[str] = ()) -> tuple[Spec, Source]:
    """Read and validate a spec with the changes that `--set` makes, such as `prior.steps=500`.

    Raises:
        SpecError: with every problem of the file.
        RequestError: if an override has none of the forms there are.
    """
    source = read_extended(file, _anchor_paths)
    for text in overrides:
        Override.parse(text).apply(source, _anchor_paths)
    return _validated(source), source


def spec_of(data: Mapping[str, Any]) -> tuple[Spec, Source]:
    """Validate a spec that is built of Python's dicts, lists and values; paths are relative to the working directory.

    Raises:
        SpecError: with every problem, or naming what no spec can hold.
    """
    try:
        source = Source("spec", json.loads(json.dumps(data, default=os.fspath)))
    except (TypeError, ValueError) as error:
        raise SpecError("spec", [Problem(0, "", f"a value is no plain data: {error}.")]) from error
    _anchor_paths(source.data, Path.cwd())
    return _validated(source), source


def _validated(source: Source) -> Spec:
    try:
        return Spec.model_validate_json(json.dumps(source.data))
    except ValidationError as error:
        raise SpecError(source.file, problems_of(error, source, Spec)) from error


def resolve(spec: Spec, source: Source, *, nodes: Sequence[Node] | None, watch: Watch = unwatched) -> ResolvedSpec:
    """Check a spec against its data and the nodes that its jobs have to fit, and add what was found of the data.

    Raises:
        SpecError: with every problem found.
    """
    findings = examine(spec, nodes, watch)
    if findings.problems or findings.digests is None:
        raise SpecError(
            source.file,
            [source.problem(problem.field, problem.message) for problem in findings.problems],
        )
    private, public = findings.digests
    return ResolvedSpec(
        spec=spec,
        private_digest=private,
        public_digest=public,
        machine=machine_of(spec),
        plugins=tuple(sorted(plugins_in(spec))),
        notes=findings.notes,
    )


def read_resolved(file: Path) -> ResolvedSpec:
    """Read a resolved spec that was stored with a run.

    Raises:
        PluginError: if it needs a plug-in that is not installed in its version.
    """
    text = file.read_text(encoding="utf-8")
    check_installed(json.loads(text).get("plugins", ()), where=str(file))
    return ResolvedSpec.model_validate_json(text)


def machine_of(spec: Spec) -> MachineKind | None:
    """The kind of this machine if keys of the spec depend on it, else None."""
    return MachineKind.here() if spec.numerics == "strict" else None


def _anchor_paths(data: Any, folder: Path) -> None:
    """Make paths of data sets and files of weights absolute: they are relative to the spec, wherever it is run."""
    sets = data.get("data") if isinstance(data, dict) else None
    for role in ("private", "public"):
        entry = sets.get(role) if isinstance(sets, dict) else None
        if isinstance(entry, dict) and isinstance(entry.get("path"), str) and entry["path"]:
            entry["path"] = str(folder / Path(entry["path"]).expanduser())
    _anchor_weights(data, folder)


def _anchor_weights(data: Any, folder: Path) -> None:
    """Make every file that describes a network absolute, wherever in a spec it stands."""
    for field in ("weights", "checkpoint", "program", "classes") if isinstance(data, dict) else ():
        path = data.get(field)
        if isinstance(path, str) and path not in ("", "none", "imagenet"):
            data[field] = str(folder / Path(path).expanduser())
    for value in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        _anchor_weights(value, folder)
