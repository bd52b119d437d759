"""PLG-MI: search a conditional prior, which the target model has labelled, by the target's margin."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from torch import Tensor

from workloads.inversion.attack import ATTACKS, Access
from workloads.inversion.class_conditional_search import ClassSearch, ClassSearchConfig
from workloads.observation.oracles import LabelOracle, WhiteBoxOracle
from workloads.priors.base import PRIORS, PriorConfig
from workloads.priors.plg_gan import PlgGanConfig


class PlgmiConfig(ClassSearchConfig):
    """Defaults are those of the authors' code."""

    version: ClassVar[int] = 2
    kind: Literal["plgmi"] = "plgmi"
    prior: Annotated[PriorConfig, PRIORS] | None = PlgGanConfig()


@ATTACKS.register(PlgmiConfig)
class Plgmi(ClassSearch[WhiteBoxOracle]):
    """Pseudo-label-guided inversion: the margin loss over two random views, by Adam, inside each class.

    Source: Yuan et al., "Pseudo Label-Guided Model Inversion Attack via Conditional Generative Adversarial Network",
    AAAI 2023.
    """

    oracle: ClassVar[type[LabelOracle]] = WhiteBoxOracle
    stages = ("pseudo-label", "fit prior", "descend")
    config: PlgmiConfig

    def identity_losses(self, access: Access[WhiteBoxOracle], images: Tensor, identities: Tensor) -> Tensor:
        return self.objective(access.target.logits(images), identities)
