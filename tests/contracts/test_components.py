"""What every component owes its base class; a new file is covered the day it appears."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.support.components import COMPONENTS, CONFIGURABLE, config_for
from tests.support.evidence import judging
from workloads.context import DataInput, JobContext
from workloads.core.config import ComponentConfig
from workloads.core.randomness import generator
from workloads.core.registry import Registry
from workloads.datasets.base import ImageSet
from workloads.datasets.digits import DigitsConfig
from workloads.defenses.base import DEFENSES, DefenseConfig
from workloads.jobs import train_classifier
from workloads.jobs.train_classifier import TrainClassifier, TrainClassifierConfig
from workloads.metrics.base import METRICS, AttackMetric, ClassifierMetric, HeldOutEvidence, ReconstructionEvidence
from workloads.models.base import MODELS, Classifier, ModelConfig, stage_outputs
from workloads.models.resnet import ResnetConfig
from workloads.models.small_cnn import SmallCnnConfig
from workloads.priors.base import PRIORS, Prior
from workloads.recipes.optimization import TrainingConfig
from workloads.training.classifiers import Architecture, load_classifier, save_classifier
from workloads.training.prediction import features_of

CLASSES, SIZE = 12, 32


def images(batch: int = 6, channels: int = 3) -> Tensor:
    return torch.rand(batch, channels, SIZE, SIZE, generator=generator("test", "images"))


@pytest.mark.parametrize(("registry", "kind"), COMPONENTS.values(), ids=COMPONENTS)
def test_a_component_says_in_one_line_what_it_is(registry: Registry[Any, Any], kind: str) -> None:
    (summary,) = (row["summary"] for row in registry.describe() if row["kind"] == kind)
    assert summary


@pytest.mark.parametrize(("registry", "kind"), COMPONENTS.values(), ids=COMPONENTS)
def test_a_component_names_its_source(registry: Registry[Any, Any], kind: str) -> None:
    (source,) = (row["source"] for row in registry.describe() if row["kind"] == kind)
    assert source


@pytest.mark.parametrize(("registry", "kind"), COMPONENTS.values(), ids=COMPONENTS)
def test_a_kind_is_the_name_of_its_module_or_package(registry: Registry[Any, Any], kind: str) -> None:
    assert kind in registry.config_of(kind).__module__.split(".")[2:]


@pytest.mark.parametrize(("registry", "kind"), CONFIGURABLE.values(), ids=CONFIGURABLE)
def test_a_config_survives_json(registry: Registry[Any, Any], kind: str) -> None:
    config: ComponentConfig = config_for(registry, kind)
    assert type(config).model_validate_json(json.dumps(config.model_dump(mode="json"))) == config


@pytest.mark.parametrize(("registry", "kind"), CONFIGURABLE.values(), ids=CONFIGURABLE)
def test_a_config_cannot_be_changed(registry: Registry[Any, Any], kind: str) -> None:
    with pytest.raises(ValueError, match="Instance is frozen"):
        config_for(registry, kind).kind = "other"


# Defenses

MODEL_FOR = {"rolss": ResnetConfig()}  # a defense of skip connections needs some
WITHOUT_TRACE = {"tl_dmi"}  # looks at the architecture and leaves it as it is


def train_with(folder: Path, defenses: tuple[Any, ...], model: ModelConfig, inputs: dict[str, Path]) -> Path:
    """A classifier trained for two epochs on noise."""
    folder.mkdir()
    shown = (images(12) * 255).to(torch.uint8)
    context = JobContext(
        key="0" * 64,
        inputs=inputs,
        output=folder,
        checkpoint_file=folder / "checkpoint.safetensors",
        load_images=lambda data: ImageSet(shown, torch.arange(12) % 3, ("a", "b", "c")),
    )
    TrainClassifier(
        TrainClassifierConfig(
            role="target",
            data=DataInput(dataset=DigitsConfig(), digest=""),
            split=None,
            model=model,
            training=TrainingConfig(epochs=2, batch_size=6),
            defenses=defenses,
        )
    ).run(context)
    return folder


@dataclass(frozen=True)
class Defended:
    """A classifier trained with a kind of defense: where it is stored, and as the training left it."""

    kind: str
    folder: Path
    network: Classifier


@pytest.fixture(scope="module", params=DEFENSES.kinds())
def defended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Defended:
    """A classifier for each kind of defense; the global generator is checked on the way."""
    kind, folder = request.param, tmp_path_factory.mktemp(request.param)
    model = MODEL_FOR.get(kind, SmallCnnConfig(width=2, stages=2))
    stored: list[Classifier] = []

    def save(target: Path, network: Classifier, architecture: Architecture) -> None:
        stored.append(network)
        save_classifier(target, network, architecture)

    before = torch.get_rng_state()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_classifier, "save_classifier", save)
        public = {"public": train_with(folder / "public", (), model, {})}
        trained = train_with(folder / "target", (config_for(DEFENSES, kind),), model, public)
    assert torch.equal(torch.get_rng_state(), before), "the global generator was used"
    return Defended(kind, trained, stored[-1])


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def test_a_defense_leaves_nothing_on_the_network_it_trained(defended: Defended) -> None:
    network = defended.network
    assert [name for name, layer in network.named_modules() if any(getattr(layer, hook) for hook in HOOKS)] == []
    assert [
        name for name, weight in network.named_parameters() if getattr(weight, "grad_sample", None) is not None
    ] == []
    assert [name for name, layer in network.named_modules() if layer.training] == []


def test_a_defended_network_judges_as_the_one_that_is_stored(defended: Defended) -> None:
    stored = load_classifier(defended.folder, device=torch.device("cpu"))
    logits = stored(images())
    assert logits.isfinite().all()
    assert torch.equal(defended.network(images()), logits)
    assert torch.equal(stored(images()), logits), "the second time as the first"


def test_a_defense_leaves_evaluation_as_it_was(defended: Defended) -> None:
    config = DEFENSES.config_of(defended.kind)
    changes_model = next(cls for cls in config.__mro__ if "change_model" in vars(cls)) is not DefenseConfig
    if changes_model and defended.kind not in WITHOUT_TRACE:
        return  # its architecture is its own
    plain = MODELS.build(SmallCnnConfig(width=2, stages=2), classes=3, channels=3, image_size=SIZE).eval()
    plain.load_state_dict(defended.network.state_dict())
    assert torch.equal(plain(images()), defended.network(images()))


def test_a_defense_says_what_it_did(defended: Defended) -> None:
    facts = json.loads((defended.folder / "defenses.json").read_text())
    assert list(facts) == [f"0.{defended.kind}"]


# Models


# Side of the images, where it is not SIZE; large networks are looked at through few and small images.
SIDES = {"facenet112": 112, "facenet64": 64, "inception_v3": 75, "ir152": 64, "maxvit_t": 224, "resnest": 64}


def architecture_of(kind: str, channels: int = 3) -> Architecture:
    size = SIDES.get(kind, SIZE)
    return Architecture(model=config_for(MODELS, kind), classes=CLASSES, channels=channels, image_size=size)


def model_of(kind: str) -> Classifier:
    """A network in use, its weights drawn from one seed."""
    model = architecture_of(kind).build(seed=1)
    model.draw_weights(generator("test", "weights"))
    return model.eval().requires_grad_(False)


def weightless(kind: str, channels: int = 3) -> Classifier:
    """The network without memory for its weights: layers and shapes alone, since drawing weights takes seconds."""
    with torch.device("meta"):
        return architecture_of(kind, channels).build().eval()


def shown_to(kind: str) -> Tensor:
    return F.interpolate(images(3), SIDES.get(kind, SIZE))


@pytest.fixture(scope="module", params=MODELS.kinds())
def network(request: pytest.FixtureRequest) -> Classifier:
    """A network of each kind, drawn once for the claims below."""
    return model_of(request.param)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", MODELS.kinds())
def test_a_model_gives_one_logit_a_class(kind: str, channels: int) -> None:
    size = SIDES.get(kind, SIZE)
    shown = torch.empty(3, channels, size, size, device="meta")
    assert weightless(kind, channels)(shown).shape == (3, CLASSES)


def test_a_model_is_its_head_on_its_features(network: Classifier) -> None:
    shown = shown_to(network.config.kind)
    logits = network(shown)
    assert logits.shape == (3, CLASSES)
    assert torch.equal(network.head(network.features(network.normalize(shown))), logits)


def test_a_model_in_use_judges_each_image_by_itself(network: Classifier) -> None:
    order, batch = torch.tensor([2, 0, 1]), shown_to(network.config.kind)
    features, shuffled, alone = (
        network.features(network.normalize(shown)) for shown in (batch, batch[order], batch[1:2])
    )
    # Features too: drawn at random, some networks give logits that hardly depend on the image.
    for judged in (torch.nn.Identity(), network.head):
        together = judged(features)
        near = 1e-4 * together.abs().max().item()  # whatever the scale of a network that is not trained
        torch.testing.assert_close(judged(shuffled), together[order], rtol=0, atol=near)
        torch.testing.assert_close(judged(alone), together[1:2], rtol=0, atol=near)


def test_a_model_starts_from_its_seeds_alone(network: Classifier) -> None:
    before = torch.get_rng_state()
    first, second = network.state_dict(), model_of(network.config.kind).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), before), "the global generator was used"


@pytest.mark.parametrize("kind", MODELS.kinds())
def test_the_stages_of_a_model_hold_its_weights_in_order(kind: str) -> None:
    model = weightless(kind)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    staged = [names[id(parameter)] for _, stage in model.stages() for parameter in stage.parameters()]
    assert len(staged) == len(set(staged)), "a weight stands in two stages"
    left = [name for name in names.values() if name not in staged and not name.startswith("head.")]
    weights_left = sum(model.get_parameter(name).numel() for name in left)
    assert weights_left < 0.01 * sum(parameter.numel() for parameter in model.parameters()) or kind == "inception_v3", (
        left
    )  # its auxiliary head leads nowhere in use


@pytest.mark.parametrize("kind", MODELS.kinds())
def test_every_stage_of_a_model_is_seen_once_on_the_way_to_its_features(kind: str) -> None:
    model = weightless(kind)
    outputs = stage_outputs(model, torch.empty(2, 3, model.image_size, model.image_size, device="meta"))
    assert len(outputs) == len(model.stages()) > 0
    assert {len(output) for output in outputs} == {2}


# Priors


@pytest.fixture(scope="module", params=PRIORS.kinds())
def prior(request: pytest.FixtureRequest) -> Prior:
    """A prior of each kind in use, its weights drawn from one seed."""
    config = config_for(PRIORS, request.param)
    prior: Prior = PRIORS.build(config, channels=3, image_size=SIZE, classes=CLASSES)
    prior.draw_weights(generator("test", "prior"))
    return prior.eval().requires_grad_(False)


def some_latents(prior: Prior) -> Tensor:
    return prior.map(torch.randn(4, prior.latent_size, generator=generator("test", "latents")))


def test_a_prior_makes_each_image_by_itself_and_of_its_size(prior: Prior) -> None:
    latents = some_latents(prior)
    together = prior.synthesize(latents, torch.arange(4))
    assert together.shape == (4, 3, SIZE, SIZE)
    torch.testing.assert_close(prior.synthesize(latents[2:3], torch.tensor([2])), together[2:3], rtol=1e-3, atol=1e-4)


def test_a_prior_that_judges_gives_each_image_one_number(prior: Prior) -> None:
    if not prior.scores_realism:
        pytest.skip(f"{prior.config.kind} does not judge images")
    assert prior.realism(prior.synthesize(some_latents(prior), torch.arange(4))).shape == (4,)


# Metrics


def measured(kind: str, order: Tensor, folder: Path) -> dict[str, Any]:
    """Numbers of a metric when its evidence comes in this order."""
    draw, metric = generator("test", "evidence"), METRICS.build(config_for(METRICS, kind))
    logits, identities = torch.randn(20, CLASSES, generator=draw), torch.arange(20) % 4
    shown = torch.rand(20, 3, 16, 16, generator=draw)
    private = (shown.flip(0) * 255).to(torch.uint8)
    if isinstance(metric, ClassifierMetric):
        network = model_of("small_cnn")
        held_out = HeldOutEvidence(logits[order], identities[order], private[order], network)
        return {name: estimate.value for name, estimate in metric.estimates(held_out).items()}
    assert isinstance(metric, AttackMetric)
    judge, names = model_of("small_cnn"), tuple(map(str, range(CLASSES)))
    evidence = ReconstructionEvidence(
        images=shown[order],
        identities=identities[order],
        logits=logits[order],
        features=features_of(judge, shown)[order],
        private=ImageSet(private[order], identities[order], names),
        private_features=features_of(judge, private)[order],
        held_out=ImageSet(private.flip(3)[order], identities[order], names),
        network=judge,
        traits={"hair": [0, 1, 2, 1], "nose": [0.1, 0.4, 0.2, 0.3]},
    )
    estimates = metric.estimates(evidence, context=judging(folder))
    return {name: estimate.value for name, estimate in estimates.items()}


@pytest.mark.parametrize("kind", METRICS.kinds())
def test_a_metric_gives_the_numbers_it_names_in_whatever_order_rows_come(kind: str, tmp_path: Path) -> None:
    shuffled = torch.randperm(20, generator=generator("test", "order"))
    first, second = (measured(kind, order, tmp_path) for order in (torch.arange(20), shuffled))
    assert tuple(first) == METRICS.build(config_for(METRICS, kind)).names(CLASSES)
    # A Frechet distance sums square roots of eigenvalues, which turn rounding errors of 1e-17 into some of 1e-9.
    assert first == pytest.approx(second, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("kind", METRICS.kinds())
def test_a_metric_says_which_way_is_better(kind: str) -> None:
    metric = METRICS.build(config_for(METRICS, kind))
    assert {metric.better()[name] for name in metric.names(CLASSES)} <= {"higher", "lower"}
