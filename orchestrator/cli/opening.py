"""From a spec file and options of a command to a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.cli.decoding import decoding_shown
from orchestrator.cli.output import stderr
from orchestrator.placement.machine import this_machine
from orchestrator.placement.nodes import Node
from orchestrator.spec.loading import load_spec, resolve
from orchestrator.sweep import Sweep


def open_sweep(spec: Path, overrides: Sequence[str] | None, *, runs: Path | None, nodes: Sequence[Node]) -> Sweep:
    """Read and check a spec, and return its sweep; `nodes` are the machines that its jobs have to fit.

    Raises:
        SpecError: with every problem of the spec.
        RequestError: if an override is not a field and a value.
    """
    loaded, source = load_spec(spec, overrides=overrides or ())
    with decoding_shown(stderr) as watch:
        return Sweep.of(resolve(loaded, source, nodes=nodes, watch=watch), runs)


def nodes_at_address(address: str | None) -> list[Node]:
    """The nodes of the cluster at an address, or this machine if there is none.

    Raises:
        RequestError: if nothing answers there.
    """
    if address is None:
        return [this_machine()]
    from orchestrator.executors.ray.cluster import nodes_at  # Ray is heavy, and only a cluster needs it

    return nodes_at(address)
