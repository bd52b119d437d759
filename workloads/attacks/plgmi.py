"""PLG-MI: search a conditional prior, which the target model has labelled, by the target's margin."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from workloads.inversion.attack import ATTACKS
from workloads.inversion.class_conditional_search import ClassConditionalSearch, ClassConditionalSearchConfig
from workloads.inversion.objective import TargetObjective
from workloads.observation.losses import LOSSES
from workloads.observation.oracles import LabelOracle, WhiteBoxOracle
from workloads.priors.base import PRIORS, PriorConfig
from workloads.priors.plg_gan import PlgGanConfig


class PlgmiConfig(ClassConditionalSearchConfig):
    """Settings of PLG-MI; the defaults are those of the authors' code."""

    version: ClassVar[int] = 4
    kind: Literal["plgmi"] = "plgmi"
    prior: Annotated[PriorConfig, PRIORS] | None = PlgGanConfig()
    """The conditional prior that images come from."""


@ATTACKS.register(PlgmiConfig)
class Plgmi(ClassConditionalSearch[WhiteBoxOracle]):
    """Pseudo-label-guided inversion: the margin loss over two random views, by Adam, inside each class.

    Source: Yuan et al., "Pseudo Label-Guided Model Inversion Attack via Conditional Generative Adversarial Network",
    AAAI 2023.
    """

    oracle: ClassVar[type[LabelOracle]] = WhiteBoxOracle
    stages = ("pseudo-label", "fit prior", "descend")
    config: PlgmiConfig

    def default_objective(self) -> TargetObjective:
        """The chosen loss of the target's logits, the margin by default."""
        return TargetObjective(LOSSES[self.config.objective])
