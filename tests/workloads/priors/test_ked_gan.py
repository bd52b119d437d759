"""The prior of KED-MI: its networks against the authors' sizes, its losses against formulas in numpy, its restarts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import log_softmax, logsumexp, softmax
from torch import Tensor

from tests.support.interruptions import Interrupted, context_at
from workloads.core.errors import ConfigError
from workloads.core.randomness import generator
from workloads.models.base import Classifier
from workloads.models.small_cnn import SmallCnnConfig
from workloads.observation.oracles import ScoreOracle
from workloads.priors.ked_gan import AnsweredBatches, KedGan, KedGanConfig, MinibatchDiscrimination
from workloads.training.classifiers import Architecture

CPU = torch.device("cpu")
CLASSES, BATCH = 3, 4
IMAGES = torch.randint(256, (20, 1, 32, 32), generator=generator("test", "images"), dtype=torch.uint8)


def prior_of(**settings: Any) -> KedGan:
    """Tiny, with weights drawn, in training mode."""
    config = KedGanConfig(**{"width": 2, "latent_size": 6, "batch_size": BATCH, **settings})
    prior = KedGan(config, channels=1, image_size=32, classes=CLASSES)
    prior.draw_weights(generator("test", "weights"))
    return prior


def target_model() -> Classifier:
    config = SmallCnnConfig(width=4, stages=2)
    model = Architecture(model=config, classes=CLASSES, channels=1, image_size=32).build()
    model.draw_weights(generator("test", "target"))
    return model.eval().requires_grad_(False)


# Networks.


@pytest.fixture(scope="module")
def as_published() -> KedGan:
    with torch.device("meta"):
        return KedGan(KedGanConfig(), channels=3, image_size=64, classes=1000)


def test_the_discriminator_has_the_parameters_of_the_authors(as_published: KedGan) -> None:
    assert sum(parameter.numel() for parameter in as_published.critic.parameters()) == 18_888_936


def test_the_generator_has_the_parameters_of_the_authors(as_published: KedGan) -> None:
    assert sum(parameter.numel() for parameter in as_published.generator.parameters()) == 5_142_083


@pytest.mark.parametrize("image_size", [32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_has_one_logit_an_identity(image_size: int, channels: int) -> None:
    prior = KedGan(KedGanConfig(width=2), channels=channels, image_size=image_size, classes=7)
    assert prior.critic(prior.synthesize(torch.zeros(4, 100))).shape == (4, 7)


def test_another_size_of_image_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"^ked_gan makes images of 32 or 64 pixels, not 48: set image_size"):
        KedGan(KedGanConfig(), channels=1, image_size=48, classes=2)


def test_likeness_within_a_batch_is_that_of_the_formula() -> None:
    layer, features = MinibatchDiscrimination(5), torch.rand(4, 5, generator=generator("test", "features")) / 10
    torch.nn.init.normal_(layer.measure.weight, generator=generator("test", "measure"))
    measures = (features @ layer.measure.weight.T).detach().view(4, 64, 50).numpy()
    alike = np.stack(
        [np.exp(-cdist(measure, measure, "cityblock")).sum(1) - 1 for measure in measures.swapaxes(0, 1)], 1
    )
    torch.testing.assert_close(layer(features).detach().numpy(), alike.astype(np.float32), rtol=1e-4, atol=1e-5)


def test_in_use_an_image_is_a_batch_by_itself() -> None:
    layer, features = MinibatchDiscrimination(5), torch.rand(4, 5, generator=generator("test", "features")) / 10
    alone = torch.cat([layer(row) for row in features.split(1)])
    assert torch.equal(layer.eval()(features), alone)


def test_unlike_images_are_judged_in_a_batch_as_they_are_in_use() -> None:
    prior = prior_of(width=64)
    shown = torch.rand(4, 1, 32, 32, generator=generator("test", "unlike"))
    in_a_batch = prior.critic(shown)
    assert torch.equal(prior.eval().critic(shown), in_a_batch)


def test_realism_does_not_depend_on_which_images_are_beside() -> None:
    prior, shown = prior_of().eval(), torch.rand(5, 1, 32, 32, generator=generator("test", "shown"))
    shown[1] = shown[0]  # twins, which training mode would tell apart from the others
    alone = torch.cat([prior.realism(image) for image in shown.split(1)])
    torch.testing.assert_close(prior.realism(shown), alone)


def test_realism_is_minus_the_loss_of_the_authors() -> None:
    prior, shown = prior_of().eval(), torch.rand(5, 1, 32, 32, generator=generator("test", "shown"))
    evidence = logsumexp(prior.critic(shown).detach().double().numpy(), axis=1)
    expected = -(np.log1p(np.exp(evidence)) - evidence)
    torch.testing.assert_close(prior.realism(shown).detach().double().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_the_measures_of_likeness_start_standard_normal() -> None:
    weight = prior_of(width=16).critic.minibatch.measure.weight  # 3.3 million numbers, so a deviation of 4e-4
    assert (weight.mean().item(), weight.std().item()) == pytest.approx((0.0, 1.0), abs=4e-3)


# Losses.


@dataclass(frozen=True)
class Recording(AnsweredBatches):
    """Batches that note what was drawn."""

    drawn: list[Tensor] = field(default_factory=list)

    def images_at(self, indices: Tensor) -> Tensor:
        self.drawn.append(indices)
        return super().images_at(indices)


@pytest.fixture
def batches() -> Recording:
    answers = torch.rand(len(IMAGES), CLASSES, generator=generator("test", "answers")).softmax(1)
    return Recording(IMAGES, CPU, answers)


def array(tensor: Tensor) -> Any:
    return tensor.detach().double().numpy()


def softplus(values: Any) -> Any:
    return np.log1p(np.exp(values))


def test_the_critics_loss_is_that_of_the_formula(batches: Recording) -> None:
    prior, draws = prior_of(), generator("test", "step")
    loss, _ = prior.critic_loss(batches, draws)
    labelled, unlabelled = (batches.images_at(indices) for indices in list(batches.drawn))
    again = generator("test", "step")
    torch.randint(len(IMAGES), (2 * BATCH,), generator=again)  # the images that were drawn before the latents
    fake = prior.generator(torch.randn(BATCH, 6, generator=again))
    predicted = log_softmax(array(prior.critic(labelled)), axis=1)
    answers_loss = -(array(batches.answers[batches.drawn[0]]) * predicted).sum(1).mean()
    of_real, of_fake = (logsumexp(array(prior.critic(images)), axis=1) for images in (unlabelled, fake))
    apart = 0.5 * (softplus(of_real).mean() - of_real.mean() + softplus(of_fake).mean())
    assert loss.item() == pytest.approx(answers_loss + apart, rel=1e-5)


def test_the_generators_loss_is_that_of_the_formula(batches: Recording) -> None:
    prior, draws = prior_of(entropy_weight=0.01), generator("test", "step")
    loss, _ = prior.generator_loss(batches, draws)
    fake = prior.generator(torch.randn(BATCH, 6, generator=generator("test", "step")))
    fake_features, wanted = (
        array(prior.critic.features(images)) for images in (fake, batches.images_at(batches.drawn[0]))
    )
    distance = np.abs(fake_features.mean(0) - wanted.mean(0)).mean()
    logits = array(prior.critic(fake))
    entropy = -(softmax(logits, axis=1) * log_softmax(logits, axis=1)).sum()  # over the batch, not its mean
    assert loss.item() == pytest.approx(distance + 0.01 * entropy, rel=1e-5)


def test_labelled_unlabelled_and_matched_images_are_drawn_apart(batches: Recording) -> None:
    prior, draws = prior_of(), generator("test", "step")
    prior.critic_loss(batches, draws)
    prior.generator_loss(batches, draws)
    assert len({tuple(indices.tolist()) for indices in batches.drawn}) == 3


def test_the_answers_are_those_of_the_target_in_use(tmp_path: Path) -> None:
    model = target_model()
    batches = prior_of().public_batches(IMAGES, ScoreOracle(model), context_at(tmp_path))
    assert isinstance(batches, AnsweredBatches)
    torch.testing.assert_close(batches.answers, model(IMAGES.float() / 255).softmax(1))


# Fitting.


def fitted(folder: Path, *, stop_after: int | None = None) -> tuple[KedGan, int]:
    """A prior after 12 steps of the critic, and how many images the target was queried about."""
    prior, oracle = prior_of(steps=12), ScoreOracle(target_model())
    prior.fit(IMAGES, target=oracle, context=context_at(folder, stop_after=stop_after))
    return prior, oracle.queries


def test_a_resumed_fit_ends_with_the_same_bits(tmp_path: Path) -> None:
    undisturbed, queries = fitted(tmp_path / "undisturbed")
    with pytest.raises(Interrupted):
        fitted(tmp_path / "interrupted", stop_after=7)
    resumed, queries_in_parts = fitted(tmp_path / "interrupted")
    ended = resumed.state_dict()
    assert all(torch.equal(ended[name], tensor) for name, tensor in undisturbed.state_dict().items())
    assert queries_in_parts == queries


def test_the_target_is_asked_once_about_each_public_image(tmp_path: Path) -> None:
    prior, oracle = prior_of(steps=5), ScoreOracle(target_model())
    prior.fit(IMAGES, target=oracle, context=context_at(tmp_path))
    assert oracle.queries == len(IMAGES)


def test_fitting_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    prior, oracle = prior_of(steps=5), ScoreOracle(target_model())  # building draws weights, fitting replaces them
    before = torch.get_rng_state()
    prior.fit(IMAGES, target=oracle, context=context_at(tmp_path))
    assert torch.equal(torch.get_rng_state(), before)


def test_fitting_leaves_the_target_as_it_was(tmp_path: Path) -> None:
    model, before = target_model(), target_model().state_dict()
    prior_of(steps=5).fit(IMAGES, target=ScoreOracle(model), context=context_at(tmp_path))
    after = model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
