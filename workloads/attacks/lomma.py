"""LOMMA: GMI or KED-MI with another objective: logits and features, of the target model and of distilled networks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from workloads.attacks.gmi import GmiConfig
from workloads.attacks.kedmi import KedmiConfig
from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.config import FrozenConfig, Steps
from workloads.inversion.attack import ATTACKS, Access, Attack, Reconstructions, SurrogateConfig
from workloads.inversion.objective import Objective
from workloads.inversion.wrapped_attack import WrappedAttackConfig
from workloads.models.base import MODELS, Classifier, ModelConfig
from workloads.models.torchvision import TorchvisionConfig
from workloads.observation.losses import LOSSES
from workloads.observation.oracles import LabelOracle, WhiteBoxOracle
from workloads.priors.base import Prior
from workloads.recipes.optimization import TrainingConfig

FEATURE_BATCH = 50  # public images at once


class GmiHost(GmiConfig):
    """GMI with the budget it has in LOMMA's code."""

    steps: Steps = 2400
    """Steps of each search."""
    batch_reference: PositiveInt = 60
    """Batch size that the authors divide losses by."""


class KedmiHost(KedmiConfig):
    """KED-MI with the clipped draws it has in LOMMA's code."""

    clip: PositiveFloat | None = 1.0
    """Bound on every number of a drawn latent, beyond which its gradient is 0."""


class DistillationConfig(FrozenConfig):
    """Networks that learn the target's probabilities on public images; the defaults are those of the authors' code.

    The authors' networks begin with weights for ImageNet: give the models `weights: imagenet`, or a file of them.
    """

    models: tuple[Annotated[ModelConfig, MODELS], ...] = Field(
        default=tuple(TorchvisionConfig(name=f"efficientnet_b{size}") for size in range(3)), min_length=1
    )
    """Architectures of the networks."""
    training: TrainingConfig = TrainingConfig(
        epochs=20, batch_size=64, optimizer="sgd", lr=0.01, momentum=0.9, weight_decay=1e-4
    )
    """How the networks are trained."""


class LommaConfig(WrappedAttackConfig):
    """Settings of LOMMA; how it searches stands in `host`.

    The defaults are LOMMA in full. Its parts alone are `L_logit` (distillation: null) and `L_aug` (identity_loss:
    cross_entropy, feature_weight: 0).
    """

    kind: Literal["lomma"] = "lomma"
    host: Annotated[GmiHost | KedmiHost, Field(discriminator="kind")] = KedmiHost()
    """The attack whose objective is replaced: `gmi` or `kedmi`."""
    identity_loss: Literal["logit", "cross_entropy"] = "logit"
    """Loss of the logits."""
    feature_weight: NonNegativeFloat = 1.0
    """Weight of the distance between the target's features of an image and their mean over public images, relative to
    the identity loss."""
    public_statistics: PositiveInt = 5000
    """Public images that the mean is taken over, drawn at random; all if there are fewer."""
    distillation: DistillationConfig | None = DistillationConfig()
    """Networks whose identity losses are averaged with the target's; null uses the target alone."""

    @property
    def surrogates(self) -> tuple[SurrogateConfig, ...]:
        """Networks distilled from scores on public images; none without `distillation`."""
        if self.distillation is None:
            return ()
        training = self.distillation.training
        return tuple(
            SurrogateConfig(answers="scores", model=model, training=training) for model in self.distillation.models
        )


@ATTACKS.register(LommaConfig)
class Lomma(Attack[WhiteBoxOracle]):
    """Logit maximisation and model augmentation: realism + 100 x (mean identity loss + distance of features).

    Cross-entropy flattens once the identity is found, and then no longer holds an image back from other classes. A
    logit does not flatten, and features close to those of public images keep the image in place. Networks distilled
    from the target do not share its overfitting. The authors mean to draw the feature target from a Gaussian and
    overwrite the draw by its mean, so the mean is the target.

    Source: Nguyen et al., "Re-thinking Model Inversion Attacks Against Deep Neural Networks", CVPR 2023, section 4.
    """

    oracle: ClassVar[type[LabelOracle]] = WhiteBoxOracle
    needs_public_images = True
    takes_lenses = True
    stages = ("distil", "public features", "host attack")
    config: LommaConfig

    def __init__(self, config: LommaConfig) -> None:
        super().__init__(config)
        host = config.host.model_copy(update={"name": config.label})  # what the host reports goes by LOMMA's name
        self.host = ATTACKS.build(host, objective=LommaObjective(config))

    def check(self, *, prior: Prior | None, classes: int) -> None:
        """Check the host as well."""
        super().check(prior=prior, classes=classes)
        self.host.check(prior=prior, classes=classes)

    def check_target(self, target_model: Classifier) -> None:
        """Check the host against the target model."""
        self.host.check_target(target_model)

    def run(self, access: Access[WhiteBoxOracle], identities: Tensor, *, context: JobContext) -> Reconstructions:
        """Run the host, which holds LOMMA's objective."""
        return self.host.run(access, identities, context=context)

    def protocol(self) -> dict[str, Any]:
        """The host's protocol, with the settings of the objective."""
        config = self.config
        return self.host.protocol() | {
            "attack": config.kind,
            "host": config.host.kind,
            "identity_loss": config.identity_loss,
            "feature_weight": config.feature_weight,
            "public_statistics": config.public_statistics,
            "surrogates": len(config.surrogates),
        }


class LommaObjective(Objective[WhiteBoxOracle]):
    """The identity loss, averaged over target and surrogates, plus the distance of features from the public mean."""

    def __init__(self, config: LommaConfig) -> None:
        self._config = config
        self._loss = LOSSES[config.identity_loss]

    def prepare(self, access: Access[WhiteBoxOracle], *, context: JobContext) -> State:
        """The target's mean features over public images. Shape: (F,)."""
        if not self._config.feature_weight:
            return {}
        assert access.public_images is not None
        order = torch.randperm(len(access.public_images), generator=context.generator("public statistics"))
        chosen = access.public_images[order[: self._config.public_statistics]]
        batches = (batch.to(access.device).float().div(255) for batch in chosen.split(FEATURE_BATCH))
        return {"public_features": mean_features(access.target, batches)}

    def losses(self, access: Access[WhiteBoxOracle], images: Tensor, identities: Tensor) -> Tensor:
        """The mean identity loss over target and surrogates, plus the weighted distance of features."""
        features, target_logits = access.target.features_and_logits(images)
        all_logits = [target_logits, *(surrogate(images) for surrogate in access.surrogates)]
        losses = torch.stack([self._loss(logits, identities) for logits in all_logits]).mean(0)
        if not self._config.feature_weight:
            return losses
        distances = (features - access.findings["public_features"]).square().mean(1)
        return losses + self._config.feature_weight * distances


@torch.no_grad()
def mean_features(target: WhiteBoxOracle, batches: Iterable[Tensor]) -> Tensor:
    """Mean of the target's features over all images. Shape: batches of (B, C, H, W) in [0, 1] to (F,)."""
    features = torch.cat([target.features_and_logits(batch)[0] for batch in batches])
    return features.double().mean(0).to(features)
