"""The KED-MI generator and discriminator: a GAN on public data that the target model teaches what identities are."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from workloads.context import JobContext
from workloads.observation.oracles import LabelOracle, ScoreOracle
from workloads.priors.adversarial import AdversarialConfig, AdversarialPrior, Figures, PublicBatches
from workloads.priors.base import PRIORS
from workloads.priors.wgan_gp import dcgan_generator, layer_widths

ASKED_AT_ONCE = 256
MINIBATCH_FEATURES, MINIBATCH_SIZE = 64, 50  # similarities of an image to its batch, and numbers each is measured by


class KedGanConfig(AdversarialConfig):
    """Defaults are those of the authors' code, but for `steps`: theirs amount to 56,000."""

    kind: Literal["ked_gan"] = "ked_gan"
    width: PositiveInt = 64
    """Channels of the generator's last hidden and the discriminator's first layer."""
    unlabelled_weight: NonNegativeFloat = 0.5
    """Of telling real images from generated ones, beside learning the target's answers."""
    entropy_weight: NonNegativeFloat = 1e-4
    """Of how undecided the discriminator is about generated images, summed over the batch."""


@PRIORS.register(KedGanConfig)
class KedGan(AdversarialPrior):
    """GAN whose discriminator learns the target's probabilities, at 32 or 64 pixels.

    The discriminator has one logit an identity; an image counts as real by the log-sum-exp of them, the class "fake"
    having logit 0. The generator is that of `wgan_gp`; at 64 pixels, 3 channels and 1000 identities the discriminator
    has the 18,888,936 parameters of the authors'.

    The target is asked once about each public image, in eval mode; the authors ask at every step and leave it in
    training mode, where its answers depend on the batch and its statistics drift.

    Source: Chen et al., "Knowledge-Enriched Distributional Model Inversion Attacks", ICCV 2021.
    """

    target_access = ScoreOracle
    config: KedGanConfig
    critic: IdentityDiscriminator

    def __init__(self, config: KedGanConfig, *, channels: int, image_size: int, classes: int) -> None:
        super().__init__(config, channels=channels, image_size=image_size, classes=classes)
        widths = layer_widths(config.kind, config.width, image_size)
        self.latent_size = config.latent_size
        self.generator = dcgan_generator(config.latent_size, widths, channels)
        self.critic = IdentityDiscriminator(
            channels, [min(own, 4 * config.width) for own in reversed(widths)], classes=classes
        )

    def draw_weights(self, generator: torch.Generator) -> None:
        super().draw_weights(generator)
        nn.init.normal_(self.critic.minibatch.measure.weight, generator=generator)

    def synthesize(self, latents: Tensor, identities: Tensor | None = None) -> Tensor:
        return self.generator(latents)

    def realism(self, images: Tensor) -> Tensor:
        """The logarithm of the probability of being real: log-sum-exp of the logits minus its softplus."""
        return F.logsigmoid(self.critic(images).logsumexp(1))

    def public_batches(self, images: Tensor, target: LabelOracle | None, context: JobContext) -> PublicBatches:
        assert isinstance(target, ScoreOracle)
        shown = PublicBatches(images, context.device)
        batches = torch.arange(len(images)).split(ASKED_AT_ONCE)
        answers = torch.cat([target.probabilities(shown.images_at(own)).cpu() for own in batches])
        return AnsweredBatches(images, context.device, answers)

    def critic_loss(self, batches: PublicBatches, draws: torch.Generator) -> tuple[Tensor, Figures]:
        """Cross-entropy against the target's answers, and real against generated images; each on images of its own."""
        assert isinstance(batches, AnsweredBatches)
        labelled, answers = batches.draw_answered(self.config.batch_size, draws)
        real = batches.draw(self.config.batch_size, draws)
        with torch.no_grad():
            fake = self.generator(self.draw_latents(draws, device=real.device))
        taught = F.cross_entropy(self.critic(labelled), answers)
        missed = F.softplus(-self.critic(real).logsumexp(1)).mean()
        fooled = F.softplus(self.critic(fake).logsumexp(1)).mean()
        figures = {"answers": taught, "real": missed, "fake": fooled}
        loss = taught + self.config.unlabelled_weight * (missed + fooled)
        return loss, {name: own.detach() for name, own in figures.items()}

    def generator_loss(self, batches: PublicBatches, draws: torch.Generator) -> tuple[Tensor, Figures]:
        """Distance of mean features from those of fresh public images, and how undecided the discriminator is."""
        features = self.critic.features(self.generator(self.draw_latents(draws, device=batches.device)))
        wanted = self.critic.features(batches.draw(self.config.batch_size, draws))
        apart = (features.mean(0) - wanted.mean(0)).abs().mean()
        logs = self.critic.judge(features).log_softmax(1)
        entropy = -(logs.exp() * logs).sum()
        figures = {"feature_distance": apart.detach(), "entropy": entropy.detach()}
        return apart + self.config.entropy_weight * entropy, figures


@dataclass(frozen=True)
class AnsweredBatches(PublicBatches):
    """Public images with what the target model says of them. Shape: answers (N, classes), on the CPU."""

    answers: Tensor

    def draw_answered(self, count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images drawn with replacement, and their answers. Shape: (count, C, H, W) in [0, 1], (count, classes)."""
        indices = torch.randint(len(self.images), (count,), generator=draws)
        return self.images_at(indices), self.answers[indices].to(self.device)


class IdentityDiscriminator(nn.Module):
    """Images to one logit an identity. Shape: (B, C, S, S) to (B, classes), S = 4 * 2^len(widths)."""

    def __init__(self, channels: int, widths: list[int], *, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        kernels = [5] * (len(widths) - 1) + [3]
        for (before, after), kernel in zip(itertools.pairwise([channels, *widths]), kernels, strict=True):
            layers += [
                nn.Conv2d(before, after, kernel, stride=2, padding=kernel // 2),
                nn.InstanceNorm2d(after, affine=True),
                nn.LeakyReLU(0.2),
            ]
        self.body = nn.Sequential(*layers)
        size = widths[-1] * 16
        self.minibatch = MinibatchDiscrimination(size)
        self.head = nn.Linear(size + MINIBATCH_FEATURES, classes)

    def features(self, images: Tensor) -> Tensor:
        """What generated and public images should have alike. Shape: (B, C, S, S) to (B, F)."""
        return self.body(images).flatten(1)

    def judge(self, features: Tensor) -> Tensor:
        return self.head(torch.cat((features, self.minibatch(features)), 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.judge(self.features(images))


class MinibatchDiscrimination(nn.Module):
    """How much each image is like the others of its batch. Shape: (B, F) to (B, 64).

    o[i, b] = sum over j of exp(-|M[i, b] - M[j, b]|_1), minus 1 for i itself; M is a linear map of the features.

    In eval mode every image is a batch by itself, for which this is 0, so that no image depends on its neighbours.
    Batches of unlike images give the same zeros: with the authors' standard normal weights distances are near 2000.

    Source: Salimans et al., "Improved Techniques for Training GANs", NeurIPS 2016, section 3.2.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.measure = nn.Linear(size, MINIBATCH_FEATURES * MINIBATCH_SIZE, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        if not self.training:
            return features.new_zeros(len(features), MINIBATCH_FEATURES)
        measures = self.measure(features).unflatten(1, (MINIBATCH_FEATURES, MINIBATCH_SIZE)).transpose(0, 1)
        return (-torch.cdist(measures, measures, p=1.0)).exp().sum(2).T - 1
