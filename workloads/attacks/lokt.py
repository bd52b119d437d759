"""LOKT: the search of PLG-MI on networks that learned the target model's labels."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from workloads.inversion.attack import ATTACKS, SurrogateConfig
from workloads.inversion.class_conditional_search import ClassConditionalSearch, ClassConditionalSearchConfig
from workloads.inversion.objective import SurrogateObjective
from workloads.inversion.selection import TargetScore
from workloads.models.base import MODELS, ModelConfig
from workloads.models.densenet import DensenetConfig
from workloads.observation.losses import LOSSES
from workloads.observation.oracles import LabelOracle
from workloads.priors.base import PRIORS, PriorConfig
from workloads.priors.tacgan import TacganConfig
from workloads.recipes.augmentation import AugmentationConfig
from workloads.recipes.optimization import TrainingConfig


class LoktConfig(ClassConditionalSearchConfig):
    """Settings of LOKT; the defaults are those of the authors' code, but for the training of the surrogates.

    The authors' surrogates begin with ImageNet weights (`weights: imagenet`) and take 23,400 steps, which are 12 epochs
    of 500,000 images of 1000 classes. They see each image once as it is and once augmented; here all are augmented.
    """

    version: ClassVar[int] = 4
    kind: Literal["lokt"] = "lokt"
    prior: Annotated[PriorConfig, PRIORS] | None = TacganConfig()
    """The conditional prior that images come from."""
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
    """How the surrogates are trained."""
    generated_per_class: PositiveInt = 500
    """Images per class that surrogates learn from; the target model labels each image once for each surrogate."""

    @property
    def surrogates(self) -> tuple[SurrogateConfig, ...]:
        """Networks that learn labels of generated images."""
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
class Lokt(ClassConditionalSearch[LabelOracle]):
    """Label-only inversion by knowledge transfer: the search asks networks that imitate the target model.

    The target model labels images while the prior and the surrogates are trained, and the final images. All surrogates
    see the same two views of an image; the authors draw two for each surrogate.

    Source: Nguyen et al., "Label-Only Model Inversion Attacks via Knowledge Transfer", NeurIPS 2023.
    """

    oracle: ClassVar[type[LabelOracle]] = LabelOracle
    stages = ("fit prior", "fit surrogates", "descend")
    config: LoktConfig

    @property
    def ranking(self) -> TargetScore:
        """Reconstructions with the wanted label score 1, others 0."""
        return TargetScore("target label")

    def default_objective(self) -> SurrogateObjective:
        """The loss of the surrogates' logits."""
        return SurrogateObjective(LOSSES[self.config.objective])

    def protocol(self) -> dict[str, Any]:
        """Adds the number of surrogates."""
        return super().protocol() | {"surrogates": len(self.config.surrogate_models)}
