"""The KED-MI generator and discriminator: a GAN on public data whose discriminator learns the target's answers."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from workloads.context import JobContext
from workloads.core.numerics import at_least_fp32
from workloads.datasets.resident import on_device
from workloads.observation.oracles import LabelOracle, ScoreOracle
from workloads.priors.adversarial import AdversarialPrior, AveragedConfig, PublicBatches
from workloads.priors.base import PRIORS
from workloads.priors.recorded_updates import Scalars
from workloads.priors.wgan_gp import dcgan_generator, layer_widths

QUERY_BATCH = 256
MINIBATCH_FEATURES, MINIBATCH_SIZE = 64, 50  # similarities of an image to its batch, and numbers that measure each


@dataclass(frozen=True)
class AnsweredBatches(PublicBatches):
    """Public images and the target model's probabilities for them."""

    answers: Tensor
    """On the device. Shape: (N, classes)."""

    def draw_answered(self, count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw images with replacement, and their answers. Shape: (count, C, H, W) in [0, 1], (count, classes)."""
        indices = torch.randint(len(self.images), (count,), generator=draws, device=self.device)
        return self.images_at(indices), self.answers[indices]


class KedGanConfig(AveragedConfig):
    """Settings of KED-MI's GAN. Defaults follow the authors' code, except `steps`: theirs come to 56,000."""

    version: ClassVar[int] = 2
    kind: Literal["ked_gan"] = "ked_gan"
    width: PositiveInt = 64
    """Channels of the generator's last hidden and the discriminator's first layer."""
    unlabelled_weight: NonNegativeFloat = 0.5
    """Weight of the real/fake loss; that of learning the target's answers is 1."""
    entropy_weight: NonNegativeFloat = 1e-4
    """Weight, in the generator's loss, of the entropy of the discriminator's classes, summed over the batch."""


@PRIORS.register(KedGanConfig)
class KedGan(AdversarialPrior[AnsweredBatches]):
    """GAN whose discriminator learns the target's probabilities, at 32 or 64 pixels.

    The discriminator has one logit per identity; their log-sum-exp is the logit of being real, with 0 as the logit of
    the class "fake". The generator is that of `wgan_gp`; at 64 pixels, 3 channels and 1000 identities the discriminator
    has 18,888,936 parameters, as in the authors' code.

    The target is queried once about each public image, in eval mode; the authors query it at every step and leave it in
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
            channels, [min(width, 4 * config.width) for width in reversed(widths)], classes=classes
        )

    def draw_weights(self, draws: torch.Generator) -> None:
        """Draw the minibatch measures from N(0, 1) as the authors do."""
        super().draw_weights(draws)
        nn.init.normal_(self.critic.minibatch.measure.weight, generator=draws)

    def synthesize(self, latents: Tensor, identities: Tensor | None = None) -> Tensor:
        """Images of latents; identities have no part in it."""
        return self.generator(latents)

    def realism(self, images: Tensor) -> Tensor:
        """Log-probability of being real: the log-sum-exp of the logits minus its softplus."""
        return F.logsigmoid(at_least_fp32(self.critic(images)).logsumexp(1))

    def public_batches(self, images: Tensor, target: LabelOracle | None, context: JobContext) -> AnsweredBatches:
        """Query the target once about every public image."""
        assert isinstance(target, ScoreOracle)
        public = PublicBatches(on_device(images, context.device), context.device)
        chunks = torch.arange(len(images), device=context.device).split(QUERY_BATCH)
        answers = torch.cat([target.probabilities(public.images_at(indices)) for indices in chunks])
        return AnsweredBatches(public.images, public.device, answers)

    def planned_queries(self, images: int) -> int:
        """Each public image once."""
        return images

    def critic_loss(self, batches: AnsweredBatches, draws: torch.Generator) -> tuple[Tensor, Scalars]:
        """Cross-entropy with the target's answers plus the real/fake loss, each on its own batch of public images."""
        labelled, answers = batches.draw_answered(self.config.batch_size, draws)
        real = batches.draw(self.config.batch_size, draws)
        with torch.no_grad():
            fake = self.generator(self.draw_latents(draws, device=real.device))
        answers_loss = F.cross_entropy(self.critic(labelled), answers)
        real_loss = F.softplus(-self.critic(real).logsumexp(1)).mean()
        fake_loss = F.softplus(self.critic(fake).logsumexp(1)).mean()
        scalars = {"answers": answers_loss, "real": real_loss, "fake": fake_loss}
        loss = answers_loss + self.config.unlabelled_weight * (real_loss + fake_loss)
        return loss, {name: scalar.detach() for name, scalar in scalars.items()}

    def generator_loss(self, batches: AnsweredBatches, draws: torch.Generator) -> tuple[Tensor, Scalars]:
        """Distance of mean features to those of a public batch, plus the weighted entropy of the classes."""
        features = self.critic.features(self.generator(self.draw_latents(draws, device=batches.device)))
        public_features = self.critic.features(batches.draw(self.config.batch_size, draws))
        distance = (features.mean(0) - public_features.mean(0)).abs().mean()
        logs = self.critic.logits(features).log_softmax(1)
        entropy = -(logs.exp() * logs).sum()
        scalars = {"feature_distance": distance.detach(), "entropy": entropy.detach()}
        return distance + self.config.entropy_weight * entropy, scalars


class IdentityDiscriminator(nn.Module):
    """Gives an image one logit per identity. Shape: (B, C, S, S) to (B, classes), S = 4 * 2^len(widths)."""

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
        """Compute the features whose means the generator matches to public images. Shape: (B, C, S, S) to (B, F)."""
        return self.body(images).flatten(1)

    def logits(self, features: Tensor) -> Tensor:
        """Turn features of a batch into logits. Shape: (B, F) to (B, classes)."""
        return self.head(torch.cat((features, self.minibatch(features)), 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the identities. Shape: (B, C, S, S) to (B, classes)."""
        return self.logits(self.features(images))


class MinibatchDiscrimination(nn.Module):
    """Measures how similar each image is to the others of its batch. Shape: (B, F) to (B, 64).

    o[i, b] = sum over j of exp(-|M[i, b] - M[j, b]|_1), minus 1 for i itself; M is a linear map of the features.

    In eval mode every image counts as a batch of its own, which gives 0, so that no image depends on its neighbours.
    Batches of different images give zeros as well: with the authors' standard normal weights distances are near 2000.

    Source: Salimans et al., "Improved Techniques for Training GANs", NeurIPS 2016, section 3.2.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.measure = nn.Linear(size, MINIBATCH_FEATURES * MINIBATCH_SIZE, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """How alike each row is to the others of its batch; 0 in eval mode. Shape: (B, F) to (B, features)."""
        if not self.training:
            return features.new_zeros(len(features), MINIBATCH_FEATURES)
        measures = self.measure(features).unflatten(1, (MINIBATCH_FEATURES, MINIBATCH_SIZE)).transpose(0, 1)
        return (-torch.cdist(measures, measures, p=1.0)).exp().sum(2).T - 1
