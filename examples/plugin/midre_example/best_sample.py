"""Look at random images of the prior, and keep the best: what an attack has to beat."""

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


class BestSampleConfig(SearchConfig):
    """How many images of the prior are looked at for each identity: `steps` for each of its `restarts`."""

    kind: Literal["best_sample"] = "best_sample"


@ATTACKS.register(BestSampleConfig)
class BestSample(RowSearch[ScoreOracle]):
    """Random search: of `steps` images of the prior, the one to which the target gives the identity most likely.

    Source: none; the simplest attack that the target's scores allow.
    """

    oracle: ClassVar[type[LabelOracle]] = ScoreOracle
    stages: ClassVar[tuple[str, ...]] = ("sample", "select")
    config: BestSampleConfig

    def begin(self, access: Access[ScoreOracle], rows: Rows) -> State:
        """No image yet: any will be better."""
        latents = torch.zeros(len(rows), access.required_prior.latent_size, device=access.device)
        return {"latents": latents, "confidence": torch.full((len(rows),), -1.0, device=access.device)}

    def move(self, access: Access[ScoreOracle], state: State, rows: Rows, step: Step) -> tuple[State, Tensor]:
        """Look at one more image for each row. The loss, which should fall, is 1 minus the best confidence."""
        latents = rows.normal(access.required_prior.latent_size, "sample", step=step.counter)
        images = self.render(access, latents, rows)
        confidence = access.target.confidence(images, rows.identities)
        better = confidence > state["confidence"]
        best = torch.maximum(confidence, state["confidence"])
        return {"latents": torch.where(better[:, None], latents, state["latents"]), "confidence": best}, 1 - best

    def latents(self, access: Access[ScoreOracle], state: State, rows: Rows) -> tuple[Rows, Tensor]:
        """The latents of the best images."""
        return rows, state["latents"]
