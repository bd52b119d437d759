"""What an attack has to beat: samples of the prior, as many as it has starts, of which the target likes some best."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from workloads.core.checkpoints import State
from workloads.inversion.attack import ATTACKS, Access, SearchConfig
from workloads.inversion.row_search import RowSearch
from workloads.inversion.rows import Rows
from workloads.inversion.step import Step
from workloads.observation.oracles import LabelOracle, ScoreOracle


class NullConfig(SearchConfig):
    """Settings of samples that nothing improves: `restarts` of them for each identity."""

    kind: Literal["null"] = "null"
    steps: Literal[1] = 1
    """A sample is looked at once."""


@ATTACKS.register(NullConfig)
class Null(RowSearch[ScoreOracle]):
    """Random samples of the prior, of which those are kept that the target is most confident of.

    An attack that reaches no more has learned nothing of the private images by its search.

    Source: this project; the floor that reviewers of inversion benchmarks ask for.
    """

    oracle: ClassVar[type[LabelOracle]] = ScoreOracle
    stages: ClassVar[tuple[str, ...]] = ("sample", "select")
    config: NullConfig

    def begin(self, access: Access[ScoreOracle], rows: Rows) -> State:
        """One latent for each row."""
        return {"latents": rows.normal(access.required_prior.latent_size, "start")}

    def move(self, access: Access[ScoreOracle], state: State, rows: Rows, step: Step) -> tuple[State, Tensor]:
        """Nothing moves."""
        return state, torch.zeros(len(rows), device=access.device)

    def latents(self, access: Access[ScoreOracle], state: State, rows: Rows) -> tuple[Rows, Tensor]:
        """The latents as they were drawn."""
        return rows, state["latents"]
