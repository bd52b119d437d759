"""Every node of a cluster looked at before the first job: its software, the store and the data as it sees them."""

from __future__ import annotations

import hashlib
import platform
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.errors import RequestError, StoreUnavailable
from orchestrator.store.artifacts import ArtifactStore
from workloads.core.errors import DataError

if TYPE_CHECKING:  # torch is heavy, and only a node whose data are read needs it
    from workloads.context import DataInput

PATIENCE_S = 120.0
"""How long a node may take to start a process and to read its data."""
PACKAGES = ("midre", "ray", "torch", "torchvision", "numpy", "pyarrow", "pydantic")
"""Packages that a difference of which makes other numbers, or none."""


@dataclass(frozen=True)
class NodeReport:
    """What a node says of itself."""

    host: str
    node: str
    """Ray's id of it."""
    versions: Mapping[str, str]
    """Python, packages, and a digest of the code of midre."""
    clock: float
    """Seconds since 1970, when it answered."""
    problems: tuple[str, ...] = ()
    """What keeps it from running jobs, in sentences that go on after its name."""
    write_s: float | None = None
    """Seconds that it took to write a file of a few bytes to the store; None where it could not."""


def check_nodes(store: ArtifactStore, data: Sequence[DataInput]) -> None:
    """Make sure that every other node runs the same code, shares the store and has the same data.

    Raises:
        RequestError: with a line for each thing that is wrong, which names the node.
    """
    problems = [
        f"node {report.host}: {problem}" for report in inspect_nodes(store, data) for problem in report.problems
    ]
    if problems:
        raise RequestError("\n".join(dict.fromkeys(problems)))


def inspect_nodes(store: ArtifactStore, data: Sequence[DataInput]) -> list[NodeReport]:
    """Ask every node but that of this process, all at once, to read a note from the store and write one, and more."""
    here = ray.get_runtime_context().get_node_id()
    others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]
    if not others:
        return []
    note = uuid.uuid4().hex
    store.leave_note(note, note)
    try:
        serialized = [item.model_dump_json() for item in data]
        answers = {
            _look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                store.root, note, versions_here(), serialized
            ): node
            for node in others
        }
        deadline = time.monotonic() + PATIENCE_S
        reports = [_answer(answer, node, deadline) for answer, node in answers.items()]
        return [_read_back(report, store, note) for report in reports]
    finally:
        store.remove_notes(note)


def versions_here() -> dict[str, str]:
    """Versions of Python and packages in this process, and a digest of midre's code."""
    packages = {"python": platform.python_version()} | {package: _version(package) for package in PACKAGES}
    return packages | {"the code of midre": _code_digest(Path(__file__).parents[3])}


@ray.remote(num_cpus=0, max_retries=0)
def _look(store: str, note: str, expected: Mapping[str, str], data: Sequence[str]) -> NodeReport:
    """What the node that runs this says of itself."""
    versions = versions_here()
    problems = [*_differences(versions, expected)]
    started = time.monotonic()
    store_problem = _store_problem(store, note)
    seconds = time.monotonic() - started
    problems += [store_problem] if store_problem else [*_data_problems(data)]
    node = ray.get_runtime_context().get_node_id()
    return NodeReport(platform.node(), node, versions, time.time(), tuple(problems), None if store_problem else seconds)


def _differences(versions: Mapping[str, str], expected: Mapping[str, str]) -> Iterator[str]:
    for name, value in expected.items():
        if versions[name] != value:
            yield f"{name} is {versions[name]} there and {value} here: install the same on all nodes."


def _store_problem(store: str, note: str) -> str:
    """Why this node does not share the store; empty if it does."""
    try:
        shared = ArtifactStore(store)
        if shared.read_note(note) != note:
            return f"the store {store} is another folder there: set storage.artifacts to one that all nodes share."
        shared.leave_note(f"{note}-{ray.get_runtime_context().get_node_id()}", note)
    except StoreUnavailable as error:
        return f"the store {store} cannot be written to there: {error.cause}"
    return ""


def _data_problems(data: Sequence[str]) -> Iterator[str]:
    """What differs in the data as this node reads them."""
    from workloads.context import DataInput
    from workloads.datasets.base import DATASETS

    for item in map(DataInput.model_validate_json, data):
        path = getattr(item.dataset, "path", "")
        try:
            digest = DATASETS.build(item.dataset).digest()
        except (DataError, OSError) as error:
            yield f"{item.dataset.kind} cannot be read there: {str(error).partition(chr(10))[0]}"
        else:
            if digest != item.digest:
                yield f"{item.dataset.kind} {path} has other files there than here: copy them, or share the folder."


def _answer(answer: ray.ObjectRef[NodeReport], node: Mapping[str, str], deadline: float) -> NodeReport:
    """The report of a node, or one that says why there is none."""
    try:
        return ray.get(answer, timeout=max(deadline - time.monotonic(), 0.1))
    except ray.exceptions.GetTimeoutError:
        reason = f"no answer in {PATIENCE_S:g} s."
    except ray.exceptions.RayError as error:
        last_line = str(error).strip().rpartition("\n")[2]
        reason = f"midre does not run there: {last_line}: install the same as here on all nodes."
    return NodeReport(node["NodeManagerHostname"], node["NodeID"], {}, time.time(), (reason,))


def _read_back(report: NodeReport, store: ArtifactStore, note: str) -> NodeReport:
    """Add to a report that what the node wrote to the store is not there on this side."""
    if report.write_s is None or store.read_note(f"{note}-{report.node}") == note:
        return report
    problem = f"what it writes to the store {store.root} is not seen here: set storage.artifacts to a shared folder."
    return replace(report, problems=(*report.problems, problem), write_s=None)


def _code_digest(root: Path) -> str:
    """Twelve hexadecimal digits that change with any file of the two packages."""
    total = hashlib.sha256()
    for file in sorted(file for room in ("orchestrator", "workloads") for file in (root / room).rglob("*.py")):
        total.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
    return total.hexdigest()[:12]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
