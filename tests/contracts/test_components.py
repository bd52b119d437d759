"""What every component owes its base class; a new file is covered the day it appears."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from workloads.attacks.base import ATTACKS
from workloads.config import ComponentConfig
from workloads.datasets.base import DATASETS
from workloads.defenses.base import DEFENSES, Defense, TrainingFacts
from workloads.jobs.base import JOBS
from workloads.metrics.base import METRICS, ClassifierMetric, HeldOutEvidence, ReconstructionEvidence
from workloads.models.base import MODELS, Classifier, initialize
from workloads.priors.base import PRIORS, Prior
from workloads.randomness import generator
from workloads.registry import Registry

REGISTRIES = {
    "attacks": ATTACKS,
    "datasets": DATASETS,
    "defenses": DEFENSES,
    "jobs": JOBS,
    "metrics": METRICS,
    "models": MODELS,
    "priors": PRIORS,
}
# Fields without a default, whatever component has them.
REQUIRED = {"path": "somewhere", "role": "target"}
COMPONENTS = [
    pytest.param(registry, kind, id=f"{name}.{kind}")
    for name, registry in REGISTRIES.items()
    for kind in registry.kinds()
]
CONFIGURABLE = [param for param in COMPONENTS if param.values[0] is not JOBS]
CLASSES, SIZE = 12, 32


def config_for(registry: Registry[Any], kind: str) -> Any:
    cls = registry.config_of(kind)
    required = {name: REQUIRED[name] for name, field in cls.model_fields.items() if field.is_required()}
    return cls(**required)


def images(batch: int = 6, channels: int = 3) -> Tensor:
    return torch.rand(batch, channels, SIZE, SIZE, generator=generator("test", "images"))


@pytest.mark.parametrize(("registry", "kind"), COMPONENTS)
def test_a_component_says_in_one_line_what_it_is(registry: Registry[Any], kind: str) -> None:
    (summary,) = (row["summary"] for row in registry.describe() if row["kind"] == kind)
    assert summary


@pytest.mark.parametrize(("registry", "kind"), COMPONENTS)
def test_a_component_names_its_source(registry: Registry[Any], kind: str) -> None:
    (source,) = (row["source"] for row in registry.describe() if row["kind"] == kind)
    assert source


@pytest.mark.parametrize(("registry", "kind"), COMPONENTS)
def test_a_kind_is_the_name_of_its_module(registry: Registry[Any], kind: str) -> None:
    assert registry.config_of(kind).__module__.rpartition(".")[2] == kind


@pytest.mark.parametrize(("registry", "kind"), CONFIGURABLE)
def test_a_config_survives_json(registry: Registry[Any], kind: str) -> None:
    config: ComponentConfig = config_for(registry, kind)
    assert type(config).model_validate_json(json.dumps(config.model_dump(mode="json"))) == config


@pytest.mark.parametrize(("registry", "kind"), CONFIGURABLE)
def test_a_config_cannot_be_changed(registry: Registry[Any], kind: str) -> None:
    with pytest.raises(ValueError, match="Instance is frozen"):
        config_for(registry, kind).kind = "other"


# Defenses


def defense_of(kind: str) -> Defense:
    facts = TrainingFacts(6, (3, SIZE, SIZE), torch.zeros(3), lambda name: generator("job", name))
    return DEFENSES.build(config_for(DEFENSES, kind), facts=facts)


def defended(kind: str, batch: Tensor) -> Tensor:
    return defense_of(kind).augment(batch.clone(), indices=torch.arange(len(batch)), generator=generator("test", "d"))


@pytest.mark.parametrize("kind", DEFENSES.kinds())
def test_a_defense_keeps_shape(kind: str) -> None:
    assert defended(kind, images()).shape == images().shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", DEFENSES.kinds())
def test_a_defense_keeps_dtype(kind: str, dtype: torch.dtype) -> None:
    assert defended(kind, images().to(dtype)).dtype == dtype


@pytest.mark.parametrize("kind", DEFENSES.kinds())
def test_a_defense_gives_finite_images(kind: str) -> None:
    assert defended(kind, images()).isfinite().all()


@pytest.mark.parametrize("kind", DEFENSES.kinds())
def test_a_defense_is_deterministic_for_a_generator(kind: str) -> None:
    assert torch.equal(defended(kind, images()), defended(kind, images()))


@pytest.mark.parametrize("kind", DEFENSES.kinds())
def test_a_defense_does_not_touch_the_global_generator(kind: str) -> None:
    before = torch.get_rng_state()
    defended(kind, images())
    assert torch.equal(torch.get_rng_state(), before)


# Models


def model_of(kind: str, channels: int = 3) -> Classifier:
    model = MODELS.build(config_for(MODELS, kind), classes=CLASSES, channels=channels, image_size=SIZE)
    initialize(model, generator("test", "weights"))
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", MODELS.kinds())
def test_a_model_gives_one_logit_a_class(kind: str, channels: int) -> None:
    assert model_of(kind, channels)(images(channels=channels)).shape == (6, CLASSES)


@pytest.mark.parametrize("kind", MODELS.kinds())
def test_a_model_is_its_head_on_its_features(kind: str) -> None:
    model = model_of(kind)
    assert torch.equal(model.head(model.features(model.normalize(images()))), model(images()))


@pytest.mark.parametrize("kind", MODELS.kinds())
def test_a_model_in_use_judges_each_image_by_itself(kind: str) -> None:
    model, order = model_of(kind).double(), torch.tensor([3, 0, 5, 1, 4, 2])
    batch = images().double()
    torch.testing.assert_close(model(batch[order]), model(batch)[order])


@pytest.mark.parametrize("kind", MODELS.kinds())
def test_a_model_starts_from_its_generator_alone(kind: str) -> None:
    first, second = model_of(kind).state_dict(), model_of(kind).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


# Priors


def prior_of(kind: str) -> Prior:
    return PRIORS.build(config_for(PRIORS, kind), channels=3, image_size=SIZE).eval().requires_grad_(False)


def synthesized(prior: Prior) -> Tensor:
    return prior.synthesize(torch.randn(4, prior.latent_size, generator=generator("test", "latents")))


@pytest.mark.parametrize("kind", PRIORS.kinds())
def test_a_prior_gives_images_of_its_size(kind: str) -> None:
    assert synthesized(prior_of(kind)).shape == (4, 3, SIZE, SIZE)


@pytest.mark.parametrize("kind", PRIORS.kinds())
def test_a_prior_gives_images_in_the_unit_range(kind: str) -> None:
    made = synthesized(prior_of(kind))
    assert ((made >= 0) & (made <= 1)).all()


@pytest.mark.parametrize("kind", PRIORS.kinds())
def test_a_prior_judges_each_image_with_one_number(kind: str) -> None:
    prior = prior_of(kind)
    assert prior.realism(synthesized(prior)).shape == (4,)


# Metrics


def measured(kind: str, order: Tensor) -> dict[str, Any]:
    """Numbers of a metric when its evidence comes in another order; rows are put back into the first one."""
    draw, metric = generator("test", "evidence"), METRICS.build(config_for(METRICS, kind))
    logits, features = torch.randn(20, CLASSES, generator=draw), torch.randn(20, 5, generator=draw)
    identities = torch.arange(20) % 4
    if isinstance(metric, ClassifierMetric):
        return metric.estimates(HeldOutEvidence(logits[order], identities[order]))
    private, private_identities = torch.randn(20, 5, generator=draw)[order], identities[order]
    rows = metric.rows(  # type: ignore[attr-defined]
        ReconstructionEvidence(logits[order], features[order], identities[order], private, private_identities)
    )
    return {name: values[order.argsort()].tolist() for name, values in rows.items()}


@pytest.mark.parametrize("kind", METRICS.kinds())
def test_a_metric_does_not_depend_on_the_order_of_rows(kind: str) -> None:
    shuffled = torch.randperm(20, generator=generator("test", "order"))
    assert measured(kind, shuffled) == measured(kind, torch.arange(20))


@pytest.mark.parametrize("kind", METRICS.kinds())
def test_a_metric_gives_the_numbers_it_names(kind: str) -> None:
    assert tuple(measured(kind, torch.arange(20))) == METRICS.class_of(config_for(METRICS, kind)).names(CLASSES)


@pytest.mark.parametrize("kind", METRICS.kinds())
def test_a_metric_says_which_way_is_better(kind: str) -> None:
    metric = METRICS.class_of(config_for(METRICS, kind))
    assert {metric.better[name] for name in metric.names(CLASSES)} <= {"higher", "lower"}
