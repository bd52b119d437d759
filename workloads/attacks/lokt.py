"""LOKT: PLG-MI's search on networks that learned the target model's labels."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from workloads.inversion.attack import ATTACKS, Access, SurrogateConfig
from workloads.inversion.class_conditional_search import ClassSearch, ClassSearchConfig
from workloads.models.base import MODELS, ModelConfig
from workloads.models.densenet import DensenetConfig
from workloads.observation.oracles import LabelOracle
from workloads.priors.base import PRIORS, PriorConfig
from workloads.priors.tacgan import TacganConfig
from workloads.recipes.augmentation import AugmentationConfig
from workloads.recipes.optimization import TrainingConfig


class LoktConfig(ClassSearchConfig):
    """Defaults are those of the authors' code, but for the surrogates' start, `epochs` and views.

    The authors' surrogates begin with ImageNet weights (`weights: imagenet`), take 23,400 steps, which are 12 epochs of
    the 500,000 images of 1000 classes, and see each image once as it is and once varied; here it is varied always.
    """

    version: ClassVar[int] = 2
    kind: Literal["lokt"] = "lokt"
    prior: Annotated[PriorConfig, PRIORS] | None = TacganConfig()
    surrogate_models: Annotated[tuple[Annotated[ModelConfig, MODELS], ...], Field(min_length=1)] = (
        DensenetConfig(depth=121),
        DensenetConfig(depth=161),
        DensenetConfig(depth=169),
    )
    """Networks that learn the target model's labels; the search descends on the mean of their losses."""
    surrogate_training: TrainingConfig = TrainingConfig(
        epochs=12,
        batch_size=256,
        lr=0.1,
        weight_decay=5e-4,
        schedule="cosine",
        augmentation=AugmentationConfig(crop_scale=(0.8, 1.0), brightness=0.2, contrast=0.2, flip=True, rotation=5.0),
    )
    generated_per_class: PositiveInt = 500
    """Images of each class that surrogates learn from; the target model labels each once for each surrogate."""

    @property
    def surrogates(self) -> tuple[SurrogateConfig, ...]:
        return tuple(
            SurrogateConfig(
                answers="labels",
                model=model,
                training=self.surrogate_training,
                generated_per_class=self.generated_per_class,
            )
            for model in self.surrogate_models
        )


@ATTACKS.register(LoktConfig)
class Lokt(ClassSearch[LabelOracle]):
    """Label-only inversion by knowledge transfer: the search needs no target model, only networks that imitate it.

    The target model names the classes of images while the prior and the surrogates learn, and of the final ones. The
    surrogates see the same two views of an image, where the authors draw two for each of them.

    Source: Nguyen et al., "Label-Only Model Inversion Attacks via Knowledge Transfer", NeurIPS 2023.
    """

    oracle: ClassVar[type[LabelOracle]] = LabelOracle
    stages = ("fit prior", "fit surrogates", "descend")
    selection = "target label"
    config: LoktConfig

    def identity_losses(self, access: Access[LabelOracle], images: Tensor, identities: Tensor) -> Tensor:
        losses = [self.objective(surrogate(images), identities) for surrogate in access.surrogates]
        return torch.stack(losses).mean(0)

    def protocol(self) -> dict[str, Any]:
        return super().protocol() | {"surrogates": len(self.config.surrogate_models)}
