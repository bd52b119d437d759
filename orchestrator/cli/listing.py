"""`midre list` and `midre schema`: what a spec can say."""

from __future__ import annotations

import json
from typing import Any

from rich.padding import Padding
from rich.text import Text

from orchestrator.cli.options import ComponentType
from orchestrator.cli.output import print_json, print_text, stdout
from orchestrator.spec.model import Spec
from workloads.core.registry import Registry
from workloads.datasets.base import DATASETS
from workloads.defenses.base import DEFENSES
from workloads.inversion.attack import ATTACKS
from workloads.metrics.base import METRICS
from workloads.models.base import MODELS
from workloads.priors.base import PRIORS

REGISTRIES: dict[ComponentType, Registry[Any, Any]] = {
    ComponentType.attacks: ATTACKS,
    ComponentType.datasets: DATASETS,
    ComponentType.defenses: DEFENSES,
    ComponentType.metrics: METRICS,
    ComponentType.models: MODELS,
    ComponentType.priors: PRIORS,
}


def registry_of(room: str) -> Registry[Any, Any]:
    """The components of a room, such as `attacks`."""
    return REGISTRIES[ComponentType(room)]


def print_components(components: ComponentType, *, as_json: bool) -> None:
    """Print kind, summary, source and fields of every component of one type."""
    registry = REGISTRIES[components]
    rows = [row | {"fields": _fields(registry, row["kind"])} for row in registry.describe()]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        stdout.print(Text.assemble((row["kind"], "bold"), f"  {row['summary']}"))
        for name, value in row.items():
            if name not in ("kind", "summary") and value:
                stdout.print(Padding(Text(f"{name}: {value}"), (0, 0, 0, 4)))


def _fields(registry: Registry[Any, Any], kind: str) -> str:
    """Names of what a component can be set to."""
    return ", ".join(name for name in registry.config_of(kind).model_fields if name != "kind")


def print_schema() -> None:
    """Print the JSON Schema of a spec."""
    print_text(json.dumps(Spec.model_json_schema(), indent=1))
