"""Keys of jobs as they were recorded: a result stays where it was stored, whatever moves in the code.

A key may change only with the version of a component, or with the revision of some of its settings, so keys are
compared at the versions of the record and without revisions. Only a new component, or a new field that enters keys,
needs a new record: `python -m tests.contracts.test_job_keys`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.spec.loading import load_spec
from orchestrator.spec.model import ResolvedSpec
from orchestrator.store.paths import Workspace
from orchestrator.sweep import Sweep
from tests.support.components import COMPONENTS, CONFIGURABLE, config_for
from tests.support.paths import SPECS
from workloads.core.config import ComponentConfig, FrozenConfig, content, digest
from workloads.defenses.random_erasing import RandomErasingConfig
from workloads.inversion.early_stop import EarlyStopConfig
from workloads.models.resnet import ResnetConfig
from workloads.models.torchvision import TorchvisionConfig
from workloads.priors.stylegan2.prior import StyleGan2Config
from workloads.recipes.augmentation import AugmentationConfig

RECORD = Path(__file__).with_name("job_keys.json")
LOCAL = {"weights", "weights_digest", "path"}  # files of this machine: REQUIRED names them for tests only


def keys_of_specs() -> dict[str, list[str]]:
    """Keys of all jobs of every shipped spec, in the order of planning, as if the data had these digests."""
    keys = {}
    for file in sorted(SPECS.glob("*.yaml")):
        spec, _ = load_spec(file)
        resolved = ResolvedSpec(spec=spec, private_digest="0" * 64, public_digest="1" * 64)
        plans = Sweep(resolved, Workspace(Path("unused"))).plans()
        keys[file.stem] = [resolved.sweep, *(job.key for plan in plans for job in plan.jobs)]
    return keys


def keys_of_components() -> dict[str, str]:
    """Digest of what determines the results of each component at its defaults."""
    keys = {}
    for name, (registry, kind) in CONFIGURABLE.items():
        determining: Any = content(config_for(registry, kind))
        keys[name] = digest(_without_local(determining))
    return keys


def _without_local(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_local(item) for name, item in value.items() if name not in LOCAL}
    return [_without_local(item) for item in value] if isinstance(value, (list, tuple)) else value


def versions() -> dict[str, int]:
    """The version of every component, as it is now."""
    return {name: registry.config_of(kind).version for name, (registry, kind) in COMPONENTS.items()}


def without_revisions(patch: pytest.MonkeyPatch) -> None:
    """Give every component its version, and nothing else one, whatever its settings."""
    below = list(FrozenConfig.__subclasses__())
    while below:
        cls = below.pop()
        below += cls.__subclasses__()
        if "revision" in vars(cls) and cls is not ComponentConfig:
            patch.delattr(cls, "revision")


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The record, with every component at the version it had then."""
    record: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    without_revisions(monkeypatch)
    for name, version in record["versions"].items():
        registry, kind = COMPONENTS[name]
        monkeypatch.setattr(registry.config_of(kind), "version", version)
    return record


def test_jobs_of_shipped_specs_keep_their_keys(record: dict[str, Any]) -> None:
    assert keys_of_specs() == record["specs"]


def test_components_at_their_defaults_keep_their_keys(record: dict[str, Any]) -> None:
    assert keys_of_components() == record["components"]


def test_versions_only_rise() -> None:
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))["versions"]
    assert {name: version for name, version in versions().items() if version < recorded.get(name, 1)} == {}


@pytest.mark.parametrize(
    ("usual", "changed"),
    [
        (ResnetConfig(), ResnetConfig(input_size=64)),
        (TorchvisionConfig(name="resnet18"), TorchvisionConfig(name="vgg16_bn")),
        (StyleGan2Config(), StyleGan2Config(resolution=64)),
        (RandomErasingConfig(), RandomErasingConfig(fill="blur")),
        (EarlyStopConfig(), EarlyStopConfig(window=10)),
        (AugmentationConfig(flip=True), AugmentationConfig(crop_scale=(0.8, 1.0))),
        (AugmentationConfig(rotation=5.0), AugmentationConfig(crop_scale=(0.8, 1.0), rotation=0.0)),
    ],
    ids=lambda config: type(config).__name__,
)
def test_keys_change_with_the_settings_whose_numbers_did_and_stay_with_others(
    usual: FrozenConfig, changed: FrozenConfig
) -> None:
    version = usual.version if isinstance(usual, ComponentConfig) else None
    assert content(usual).get("version") == version
    assert content(changed)["version"] == (version or 1) + 1


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        without_revisions(patch)
        everything = {"versions": versions(), "specs": keys_of_specs(), "components": keys_of_components()}
    RECORD.write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n", encoding="utf-8")
