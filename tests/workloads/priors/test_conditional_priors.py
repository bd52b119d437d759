"""The class-conditional priors: networks, losses by hand, what they ask the target model, and how they resume."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_expit, log_softmax
from torch import Tensor, nn
from torch.nn import functional as F

from tests.support.interruptions import Interrupted, context_at
from workloads.context import JobContext
from workloads.core.errors import ConfigError
from workloads.core.randomness import generator
from workloads.observation.oracles import LabelOracle, WhiteBoxOracle
from workloads.observation.views import ViewConfig
from workloads.priors.adversarial import AdversarialConfig, AdversarialPrior, PublicBatches
from workloads.priors.base import PRIORS
from workloads.priors.conditional import ConditionalPrior
from workloads.priors.enlarging import enlarged_convolution
from workloads.priors.plg_gan import PlgGan, PlgGanConfig, PseudoLabelledBatches, pseudo_labels
from workloads.priors.recorded_updates import Scalars
from workloads.priors.residual import ConditionalNorm, draw_weights
from workloads.priors.tacgan import BatchesWithTarget, Tacgan, TacganConfig

CPU = torch.device("cpu")
CLASSES, SIZE, PUBLIC, BATCH = 3, 32, 12, 4
CONFIGS: dict[str, type[Any]] = {"plg_gan": PlgGanConfig, "tacgan": TacganConfig}
KINDS = pytest.mark.parametrize("kind", CONFIGS)
# Sums of float32 numbers in another order.
ROUNDED = {"rtol": 1e-4, "atol": 1e-4}


class TinyTarget(nn.Module):
    """Three classes told apart by fixed random weights."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.std = torch.full((3, 1, 1), 0.5), torch.ones(3, 1, 1)
        self.head = nn.Linear(6, CLASSES)
        self.body = nn.Conv2d(3, 6, 5, stride=4)
        for weight in self.parameters():
            nn.init.normal_(weight, generator=generator("test", "target", weight.numel()))
        self.eval().requires_grad_(False)

    def normalize(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std

    def features(self, normalized: Tensor) -> Tensor:
        return self.body(normalized).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(self.normalize(images)))


def public() -> Tensor:
    return (torch.rand(PUBLIC, 3, SIZE, SIZE, generator=generator("test", "public")) * 255).to(torch.uint8)


def prior_of(kind: str, **settings: Any) -> Any:
    config = CONFIGS[kind](**{"width": 2, "latent_size": 4, "batch_size": BATCH, "steps": 10, **settings})
    prior: Any = PRIORS.build(config, channels=3, image_size=SIZE, classes=CLASSES)
    prior.draw_weights(generator("test", "weights"))
    return prior


def small(kind: str, **settings: Any) -> Any:
    return prior_of(kind, **({"images_per_class": 2} if kind == "plg_gan" else {}), **settings)


def target_for(kind: str) -> LabelOracle:
    return WhiteBoxOracle(TinyTarget()) if kind == "plg_gan" else LabelOracle(TinyTarget())


# Networks


@pytest.mark.parametrize(
    ("kind", "critic"),
    # The second is the first without its 1000 x 1024 embedding, with a linear layer to 1000 logits and their biases.
    [("plg_gan", 11_165_441), ("tacgan", 11_165_441 - 1000 * 1024 + 1000 * 1024 + 1000)],
)
def test_the_networks_have_the_published_numbers_of_parameters(kind: str, critic: int) -> None:
    with torch.device("meta"):
        prior: Any = PRIORS.build(CONFIGS[kind](), channels=3, image_size=64, classes=1000)
    counts = [sum(parameter.numel() for parameter in half.parameters()) for half in (prior.generator, prior.critic)]
    assert counts == [17_973_379, critic]


@KINDS
@pytest.mark.parametrize(("image_size", "channels"), [(32, 1), (64, 3)])
def test_a_prior_makes_and_judges_images_of_its_size(kind: str, image_size: int, channels: int) -> None:
    config = CONFIGS[kind](width=2)
    prior = PRIORS.build(config, channels=channels, image_size=image_size, classes=CLASSES).eval()
    images = prior.synthesize(torch.zeros(2, 128), torch.tensor([0, 2]))
    assert images.shape == (2, channels, image_size, image_size)
    assert prior.realism(images).shape == (2,)


@KINDS
def test_another_size_is_refused_with_the_way_out(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"^{kind} makes images of 32 or 64 pixels, not 48: set image_size"):
        PRIORS.build(CONFIGS[kind](), channels=3, image_size=48, classes=CLASSES)


@KINDS
def test_weights_are_a_function_of_the_generator_alone(kind: str) -> None:
    states = []
    for seed in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            states.append(small(kind).state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_filters_of_3_x_3_begin_twice_as_wide_in_variance_as_xavier_has_it() -> None:
    layers = nn.Sequential(nn.Conv2d(64, 128, 3), nn.Conv2d(64, 128, 1))
    draw_weights(layers, generator("test", "xavier"))
    wide, plain = (weight.detach().var().item() for weight in layers.parameters() if weight.dim() == 4)
    # Xavier: 2 / (fan in + fan out); times the square of the gain, sqrt 2.
    assert wide == pytest.approx(2 * 2 / (9 * 64 + 9 * 128), rel=0.05)
    assert plain == pytest.approx(2 / (64 + 128), rel=0.05)


@pytest.mark.parametrize("shape", [(5, 7, 4, 6), (2, 3, 1, 1)])
def test_enlarged_is_the_convolution_of_interpolated_maps(shape: tuple[int, ...]) -> None:
    draws = generator("test", "maps")
    maps = torch.randn(shape, generator=draws, dtype=torch.float64)
    layer = nn.Conv2d(shape[1], 4, 3, padding=1).double()
    wanted = layer(F.interpolate(maps, scale_factor=2, mode="bilinear"))
    torch.testing.assert_close(enlarged_convolution(maps, layer), wanted, rtol=0.0, atol=1e-12)


def normed() -> tuple[ConditionalNorm, Tensor]:
    """A norm that knows another mean, variance, scale and shift for everything, and maps."""
    draws = generator("test", "norm")
    layer, maps = ConditionalNorm(4, CLASSES), torch.randn(3, 4, 2, 2, generator=draws)
    for tensor in (layer.scale.data, layer.shift.data, layer.norm.running_mean, layer.norm.running_var):
        assert tensor is not None
        tensor.copy_(torch.rand(tensor.shape, generator=draws) + 0.5)
    return layer.eval(), maps


def test_a_conditional_norm_in_use_is_batch_norm_with_the_affine_part_of_each_rows_class() -> None:
    layer, maps = normed()
    statistics = (layer.norm.running_mean, layer.norm.running_var)
    identities = torch.tensor([2, 0, 2])
    wanted = [
        F.batch_norm(row[None], *statistics, layer.scale[identity], layer.shift[identity])[0]
        for row, identity in zip(maps, identities.tolist(), strict=True)
    ]
    torch.testing.assert_close(layer(maps, identities), torch.stack(wanted))


def test_a_conditional_norm_in_training_uses_the_statistics_of_the_batch() -> None:
    layer, maps = normed()
    layer.train()
    outputs = layer(maps, torch.zeros(3, dtype=torch.int64))
    mean = outputs.mean((0, 2, 3))
    torch.testing.assert_close(mean, layer.shift[0], rtol=0.0, atol=1e-6)


# What the two are fitted on


def plg_lessons(target: WhiteBoxOracle) -> PseudoLabelledBatches:
    images_of_class = torch.tensor([[0, 5], [1, 5], [2, 7]])
    return PseudoLabelledBatches(public(), CPU, target=target, images_of_class=images_of_class)


class Fixed(WhiteBoxOracle):
    """A target model that gives the images of brightness 0, 1, 2, ... fixed confidences."""

    def __init__(self, confidences: Tensor) -> None:
        super().__init__(TinyTarget())
        self._confidences = confidences

    def probabilities(self, images: Tensor) -> Tensor:
        self.queries += len(images)
        return self._confidences[(images.amax((1, 2, 3)) * 255).round().long()]


def test_each_class_gets_the_images_the_target_sees_it_most_in() -> None:
    confidences = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.6, 0.1, 0.3], [0.0, 0.9, 0.1]])
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    target = Fixed(confidences)
    indices = pseudo_labels(images, target, count=2, device=CPU)
    assert indices.tolist() == [[0, 2], [3, 1], [1, 2]]
    assert target.queries == 4


def test_labelled_images_carry_the_classes_that_were_seen_in_them() -> None:
    batches = plg_lessons(WhiteBoxOracle(TinyTarget()))
    images, named = batches.draw_labelled(200, generator("test", "labelled"))
    # Noise stays below a grey level, so rounding down tells which image each is.
    levels = (images * 255).floor().clamp(max=255).to(torch.uint8)
    which = [next(index for index, image in enumerate(public()) if torch.equal(image, shown)) for shown in levels]
    assert set(zip(named.tolist(), which, strict=True)) == {(0, 0), (0, 5), (1, 1), (1, 5), (2, 2), (2, 7)}


def test_copies_of_an_image_do_not_stand_for_several_images_of_a_class(tmp_path: Path) -> None:
    target = WhiteBoxOracle(TinyTarget())
    batches = small("plg_gan").public_batches(public().repeat(3, 1, 1, 1), target, context_at(tmp_path))
    for indices in batches.images_of_class:
        first, second = batches.images[indices]
        assert not torch.equal(first, second)


def test_fewer_public_images_than_wanted_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"needs 30 different public images, but there are only 12: lower it or give more"
    ):
        prior_of("plg_gan").fit(public(), target=WhiteBoxOracle(TinyTarget()), context=context_at(tmp_path))


# Losses, from the networks' outputs by numpy and scipy


def twin_outputs(prior: ConditionalPrior[Any], draws: torch.Generator) -> tuple[Any, Tensor, Tensor]:
    """A copy of the prior that has made the batch that these draws give, the batch, and its classes."""
    twin: Any = copy.deepcopy(prior)
    fake, identities = twin.generated_batch(draws, device=CPU)
    return twin, fake.detach(), identities


def numbers(values: Tensor) -> Any:
    return values.detach().double().numpy()


def test_plg_gans_generator_descends_on_a_fifth_of_the_margin_and_minus_realism() -> None:
    prior, target = small("plg_gan", view=ViewConfig()), TinyTarget()
    loss, scalars = prior.generator_loss(plg_lessons(WhiteBoxOracle(target)), generator("test", "loss"))
    twin, fake, identities = twin_outputs(prior_of("plg_gan", images_per_class=2), generator("test", "loss"))
    logits, values = numbers(target(fake)), numbers(twin.critic(fake, identities))
    wanted_logit = logits[np.arange(BATCH), identities]
    logits[np.arange(BATCH), identities] = -np.inf
    margin = (logits.max(1) - wanted_logit).mean()
    assert scalars["margin"].item() == pytest.approx(margin, rel=1e-4)
    assert loss.item() == pytest.approx(0.2 * margin - values.mean(), rel=1e-4)


def test_plg_gans_critic_descends_on_the_hinge_of_made_and_labelled_images() -> None:
    prior, batches = small("plg_gan"), plg_lessons(WhiteBoxOracle(TinyTarget()))
    loss, _ = prior.critic_loss(batches, generator("test", "loss"))
    draws = generator("test", "loss")
    twin, fake, identities = twin_outputs(small("plg_gan"), draws)
    on_fake = numbers(twin.critic(fake, identities))
    on_real = numbers(twin.critic(*batches.draw_labelled(BATCH, draws)))
    wanted = np.maximum(0, 1 - on_real).mean() + np.maximum(0, 1 + on_fake).mean()
    assert loss.item() == pytest.approx(wanted, rel=1e-4)


def test_the_margin_moves_the_generator_through_the_target_and_not_the_target() -> None:
    prior, target = small("plg_gan", margin_weight=1e6), TinyTarget()
    loss, _ = prior.generator_loss(plg_lessons(WhiteBoxOracle(target)), generator("test", "loss"))
    loss.backward()
    assert prior.generator.stem.weight.grad.norm() > 1  # the critic's part alone is about 1e-3
    assert all(weight.grad is None for weight in target.parameters())


def tacgan_at(step: int) -> Tacgan:
    prior: Tacgan = small("tacgan", warm_up=0.5)
    prior.begin_step(step)
    return prior


@pytest.mark.parametrize(("step", "class_weight"), [(4, 0.0), (5, 1.5)])
def test_tacgans_critic_learns_classes_after_half_of_ten_steps(step: int, class_weight: float) -> None:
    batches = BatchesWithTarget(public(), CPU, target=LabelOracle(TinyTarget()))
    loss, _ = tacgan_at(step).critic_loss(batches, generator("test", "loss"))
    draws = generator("test", "loss")
    twin, fake, _ = twin_outputs(tacgan_at(step), draws)
    of_fake, classes = (numbers(output) for output in twin.critic(fake))
    real = numbers(twin.critic(batches.draw(BATCH, draws))[0])
    labels = TinyTarget()(fake.clamp(0, 1)).argmax(1)
    entropy = -log_softmax(classes, axis=1)[np.arange(BATCH), labels].mean()
    wanted = -log_expit(real).mean() - log_expit(-of_fake).mean() + class_weight * entropy
    assert loss.item() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(("step", "class_weight"), [(4, 0.0), (5, 1.5)])
def test_tacgans_generator_learns_classes_after_half_of_ten_steps(step: int, class_weight: float) -> None:
    batches = BatchesWithTarget(public(), CPU, target=LabelOracle(TinyTarget()))
    loss, _ = tacgan_at(step).generator_loss(batches, generator("test", "loss"))
    twin, fake, identities = twin_outputs(tacgan_at(step), generator("test", "loss"))
    of_fake, classes = (numbers(output) for output in twin.critic(fake))
    entropy = -log_softmax(classes, axis=1)[np.arange(BATCH), identities].mean()
    assert loss.item() == pytest.approx(-log_expit(of_fake).mean() + class_weight * entropy, rel=1e-4)


def test_tacgan_may_tell_real_from_made_by_the_hinge() -> None:
    batches = BatchesWithTarget(public(), CPU, target=LabelOracle(TinyTarget()))
    prior, draws = small("tacgan", warm_up=1.0, realism_loss="hinge"), generator("test", "loss")
    prior.begin_step(0)
    twin, fake, _ = twin_outputs(prior, draws)
    of_critic, _ = copy.deepcopy(prior).critic_loss(batches, generator("test", "loss"))
    of_generator, _ = prior.generator_loss(batches, generator("test", "loss"))
    of_fake = numbers(twin.critic(fake)[0])
    real = numbers(twin.critic(batches.draw(BATCH, draws))[0])
    assert of_critic.item() == pytest.approx((np.maximum(0, 1 - real) + np.maximum(0, 1 + of_fake)).mean(), rel=1e-3)
    assert of_generator.item() == pytest.approx(-of_fake.mean(), rel=1e-3)


# Fitting


def fitted(kind: str, folder: Path, *, stop_after: int | None = None) -> tuple[Any, LabelOracle]:
    prior, target = small(kind), target_for(kind)
    prior.fit(public(), target=target, context=context_at(folder, stop_after=stop_after))
    return prior, target


@KINDS
def test_a_fit_that_was_interrupted_ends_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    undisturbed, oracle = fitted(kind, tmp_path / "whole")
    with pytest.raises(Interrupted):
        fitted(kind, tmp_path / "parts", stop_after=7)
    parts, oracle_of_parts = fitted(kind, tmp_path / "parts")
    weights = parts.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in undisturbed.state_dict().items())
    assert oracle.queries == oracle_of_parts.queries


@KINDS
def test_fitting_leaves_the_global_generator_alone(kind: str, tmp_path: Path) -> None:
    prior, target = small(kind), target_for(kind)
    before = torch.get_rng_state()
    prior.fit(public(), target=target, context=context_at(tmp_path))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("kind", "queries"),
    # Every public image once, and a batch at each of the generator's 2 steps; a batch at each of 9 steps after warm-up.
    [("plg_gan", PUBLIC + 2 * BATCH), ("tacgan", 9 * BATCH)],
)
def test_every_image_shown_to_the_target_is_counted(kind: str, queries: int, tmp_path: Path) -> None:
    _, target = fitted(kind, tmp_path)
    assert target.queries == queries


@pytest.mark.parametrize(
    ("kind", "still"),
    # While all values lie between -1 and 1 the hinge is straight, and what is added to all of them cancels.
    [("plg_gan", ["critic.value.bias"]), ("tacgan", [])],
)
def test_fitting_moves_the_weights_of_both_networks(kind: str, still: list[str], tmp_path: Path) -> None:
    start = small(kind)
    start.draw_weights(context_at(tmp_path).generator("initialization"))
    before = dict(start.named_parameters())
    prior, _ = fitted(kind, tmp_path)
    assert [name for name, parameter in prior.named_parameters() if torch.equal(parameter, before[name])] == still


class Recorder(AdversarialPrior[PublicBatches]):
    """Notes who moves."""

    def __init__(self) -> None:
        super().__init__(AdversarialConfig(kind="r", steps=4, critic_steps=2), channels=1, image_size=1, classes=1)
        self.generator, self.critic, self.moves = nn.Linear(1, 1), nn.Linear(1, 1), list[str]()

    def synthesize(self, latents: Tensor, identities: Tensor | None = None) -> Tensor:
        return latents

    def public_batches(self, images: Tensor, target: LabelOracle | None, context: JobContext) -> PublicBatches:
        return PublicBatches(images, context.device)

    def critic_loss(self, batches: PublicBatches, draws: torch.Generator) -> tuple[Tensor, Scalars]:
        self.moves.append("critic")
        return self.critic(torch.ones(1, 1)).sum(), {}

    def generator_loss(self, batches: PublicBatches, draws: torch.Generator) -> tuple[Tensor, Scalars]:
        self.moves.append("generator")
        return self.generator(torch.ones(1, 1)).sum(), {}


class GeneratorFirst(Recorder):
    generator_first = True


@pytest.mark.parametrize(
    ("recorder", "order"),
    [
        (GeneratorFirst, ["generator", "critic", "critic", "generator", "critic", "critic"]),
        (Recorder, ["critic", "critic", "generator", "critic", "critic", "generator"]),
    ],
)
def test_the_generator_moves_before_or_after_the_critics_steps(
    recorder: type[Recorder], order: list[str], tmp_path: Path
) -> None:
    prior = recorder()
    prior.fit(public(), context=context_at(tmp_path))
    assert prior.moves == order


def test_conditional_priors_move_the_generator_first() -> None:
    assert PlgGan.generator_first
    assert Tacgan.generator_first


@KINDS
def test_a_config_reads_lists_from_json(kind: str) -> None:
    text = json.dumps({"kind": kind, "betas": [0.0, 0.9]})
    assert CONFIGS[kind].model_validate_json(text) == CONFIGS[kind]()
