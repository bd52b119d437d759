"""Every component there is, so that a test over all of them covers a new file the day it appears."""

from __future__ import annotations

from typing import Any

from workloads.attacks.gmi import GmiConfig
from workloads.core.registry import Registry
from workloads.datasets.base import DATASETS
from workloads.defenses.base import DEFENSES
from workloads.inversion.attack import ATTACKS
from workloads.jobs.base import JOBS
from workloads.metrics.base import METRICS
from workloads.models.base import MODELS
from workloads.priors.base import PRIORS

REGISTRIES: dict[str, Registry[Any, Any]] = {
    "attacks": ATTACKS,
    "datasets": DATASETS,
    "defenses": DEFENSES,
    "jobs": JOBS,
    "metrics": METRICS,
    "models": MODELS,
    "priors": PRIORS,
}
# Fields without a default, whatever component has them.
REQUIRED: dict[str, Any] = {
    "host": GmiConfig(),
    "attacks": (GmiConfig(), GmiConfig(name="again")),
    "path": "somewhere",
    "rank": 1,
    "role": "target",
    "extractor": {"weights": __file__},
}
COMPONENTS = {f"{name}.{kind}": (registry, kind) for name, registry in REGISTRIES.items() for kind in registry.kinds()}
CONFIGURABLE = {id: component for id, component in COMPONENTS.items() if component[0] is not JOBS}


def config_for(registry: Registry[Any, Any], kind: str) -> Any:
    """The config of a kind at its defaults, with the fields that have none filled in."""
    cls = registry.config_of(kind)
    required = {name: REQUIRED[name] for name, field in cls.model_fields.items() if field.is_required()}
    return cls(**required)
