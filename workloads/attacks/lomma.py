"""LOMMA: GMI or KED-MI on logits and features instead, of the target model and of networks distilled from it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from workloads.attacks.gmi import GmiConfig
from workloads.attacks.kedmi import KedmiConfig
from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.config import FrozenConfig
from workloads.inversion.attack import ATTACKS, Access, SurrogateConfig
from workloads.inversion.wrapped_attack import HostedAttack, HostedConfig
from workloads.models.base import MODELS, ModelConfig
from workloads.models.torchvision import TorchvisionConfig
from workloads.observation.objectives import OBJECTIVES
from workloads.observation.oracles import WhiteBoxOracle
from workloads.recipes.optimization import TrainingConfig

ASKED_AT_ONCE = 50


class GmiHost(GmiConfig):
    """GMI with the budget it has in LOMMA's code."""

    steps: PositiveInt = 2400
    batch_reference: PositiveInt = 60


class KedmiHost(KedmiConfig):
    """KED-MI with the clipped draws it has in LOMMA's code."""

    clip: PositiveFloat | None = 1.0


class DistillationConfig(FrozenConfig):
    """Networks that learn the target's probabilities on public images. Defaults are those of the authors' code.

    The authors' networks begin with weights for ImageNet: give the models `weights: imagenet`, or a file of them.
    """

    models: tuple[Annotated[ModelConfig, MODELS], ...] = Field(
        default=tuple(TorchvisionConfig(name=f"efficientnet_b{size}") for size in range(3)), min_length=1
    )
    training: TrainingConfig = TrainingConfig(
        epochs=20, batch_size=64, optimizer="sgd", lr=0.01, momentum=0.9, weight_decay=1e-4
    )


class LommaConfig(HostedConfig):
    """Defaults are LOMMA in full; its parts are `L_logit` (no `distillation`) and `L_aug` (cross_entropy, no features).

    How it searches stands in `host`.
    """

    kind: Literal["lomma"] = "lomma"
    host: Annotated[GmiHost | KedmiHost, Field(discriminator="kind")] = KedmiHost()
    identity_loss: Literal["logit", "cross_entropy"] = "logit"
    feature_weight: NonNegativeFloat = 1.0
    """Of the distance between the target's features and their mean over public images, beside the identity loss."""
    public_statistics: PositiveInt = 5000
    """Public images that the mean is taken over, drawn at random; all where there are fewer."""
    distillation: DistillationConfig | None = DistillationConfig()
    """Networks whose identity losses are averaged with the target's; the target stands alone where null."""

    @property
    def surrogates(self) -> tuple[SurrogateConfig, ...]:
        if self.distillation is None:
            return ()
        training = self.distillation.training
        return tuple(
            SurrogateConfig(answers="scores", model=own, training=training) for own in self.distillation.models
        )


@ATTACKS.register(LommaConfig)
class Lomma(HostedAttack):
    """Logit maximisation and model augmentation: realism + 100 x (mean identity loss + distance of features).

    Cross-entropy flattens once the identity is found and lets an image leave the classes behind it; a logit does not,
    and features near those of public images hold it. Networks distilled from the target do not share its overfitting.
    The authors mean to draw the features' aim from a Gaussian and overwrite the draw by its mean, so that is the aim.

    Source: Nguyen et al., "Re-thinking Model Inversion Attacks Against Deep Neural Networks", CVPR 2023, section 4.
    """

    needs_public_images = True
    stages = ("distil", "public features", "the host's")
    config: LommaConfig

    def prepare(self, access: Access[WhiteBoxOracle], identities: Tensor, *, context: JobContext) -> State:
        found = super().prepare(access, identities, context=context)
        if not self.config.feature_weight:
            return found
        assert access.public_images is not None
        order = torch.randperm(len(access.public_images), generator=context.generator("public statistics"))
        some = access.public_images[order[: self.config.public_statistics]]
        shown = (own.to(access.device).float().div(255) for own in some.split(ASKED_AT_ONCE))
        return found | {"public_features": mean_features(access.target, shown)}

    def identity_losses(self, access: Access[WhiteBoxOracle], images: Tensor, identities: Tensor) -> Tensor:
        loss = OBJECTIVES[self.config.identity_loss]
        features, logits = access.target.features_and_logits(images)
        answers = [logits, *(model(images) for model in access.surrogates)]
        looks = torch.stack([loss(own, identities) for own in answers]).mean(0)
        if not self.config.feature_weight:
            return looks
        return looks + self.config.feature_weight * (features - access.findings["public_features"]).square().mean(1)

    def protocol(self) -> dict[str, object]:
        names = ("identity_loss", "feature_weight", "public_statistics")
        settings = {name: getattr(self.config, name) for name in names}
        return super().protocol() | settings | {"surrogates": len(self.config.surrogates)}


@torch.no_grad()
def mean_features(target: WhiteBoxOracle, batches: Iterable[Tensor]) -> Tensor:
    """Mean of the target's features over all images. Shape: batches of (B, C, H, W) in [0, 1] to (F,)."""
    features = torch.cat([target.features_and_logits(own)[0] for own in batches])
    return features.double().mean(0).to(features)
