"""IF-GMI: descend on styles first, then block by block on the features inside the generator."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from workloads.core.checkpoints import State
from workloads.core.config import Preset, with_preset
from workloads.core.errors import ConfigError
from workloads.inversion.attack import ATTACKS, Access
from workloads.inversion.l1_ball import within_l1_ball
from workloads.inversion.optimizers import Descent, RestartingRule, Variables
from workloads.inversion.rows import Rows, select
from workloads.inversion.step import Step
from workloads.inversion.style_search import StyleSearch, StyleSearchConfig
from workloads.observation.oracles import WhiteBoxOracle
from workloads.priors.base import Prior
from workloads.priors.staged import StagedPrior

RADII = (1000.0, 2000.0, 3000.0, 4000.0, 5000.0, 6000.0, 8000.0, 8000.0)
PRESETS: dict[str, dict[str, Any]] = {
    "facescrub": {"pool": 2000, "pool_seed": 42, "stage_steps": (50, *7 * (10,))},
    "celeba_ffhq": {"pool": 5000, "pool_seed": 42, "stage_steps": (70, *4 * (25,))},
    "celeba_metfaces": {"pool": 5000, "pool_seed": 42, "stage_steps": (70, *7 * (25,))},
    "dogs": {
        **{"pool": 2000, "pool_seed": 42, "stage_steps": (100, *6 * (10,))},
        **{"lr": 0.01, "view": {"scale": (0.75, 1.0)}},
    },
}


class IfgmiConfig(StyleSearchConfig):
    """Settings of IF-GMI; the defaults are those of the authors' code for CelebA and FFHQ.

    The five stages of the defaults need a prior of 64 pixels or more. `fidelity: official` drops the colours that
    earlier blocks added when a stage begins, and ranks the images of a stage as they were before its last step, beside
    what it does to the pool. `fixed` carries the colours along.
    """

    version: ClassVar[int] = 3
    kind: Literal["ifgmi"] = "ifgmi"
    preset: Annotated[Literal["facescrub", "celeba_ffhq", "celeba_metfaces", "dogs"] | None, Preset()] = None
    """The authors' steps, pool and rate for a data set, which fill in fields that the spec leaves out."""
    restarts: PositiveInt = 50
    """Entries of the pool, per identity, that a search starts from."""
    keep: PositiveInt = 50
    """Reconstructions kept per identity: those with the highest mean confidence over random views."""
    pool: PositiveInt = 5000
    """Latents drawn; the target model scores them once, for all identities together."""
    stage_steps: tuple[PositiveInt, ...] = (70, 25, 25, 25, 25)
    """Steps of each stage. Stage i searches the input of block i of the prior, which must have at least as many
    blocks."""
    # A class variable, so that the inherited field is gone: the sum follows from `stage_steps`.
    steps: ClassVar[Any] = property(lambda config: sum(config.stage_steps))  # type: ignore[misc]
    style_radii: tuple[PositiveFloat, ...] = RADII
    """Largest distance of a style from where each stage began, as the sum of absolute differences, per stage."""
    feature_radii: tuple[PositiveFloat, ...] = RADII
    """Largest distance of the features from where each stage began, per stage; the first entry is not used."""
    selection_views: PositiveInt = 10
    """Random views by which the image of each stage is ranked. The authors choose the stage by the evaluation model,
    so this number is ours."""
    batch_reference: PositiveInt = 5
    """Batch size that the authors divide losses by; Adam all but cancels it."""
    chunk_rows: PositiveInt = 16
    """Rows searched at once. The features of one row take megabytes, and Adam keeps two more copies of them."""
    converged: None = None
    """Rows do not end early, because a stage is ranked when its steps are over."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, values: Any) -> Any:
        return with_preset(PRESETS.get(str(values.get("preset")), {}), values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _every_stage_has_its_radii(self) -> IfgmiConfig:
        fewest = min(len(self.style_radii), len(self.feature_radii))
        if not 1 <= len(self.stage_steps) <= fewest:
            raise ValueError(f"there are {len(self.stage_steps)} stages, but radii for {fewest}: name one for each")
        return self


@ATTACKS.register(IfgmiConfig)
class Ifgmi(StyleSearch):
    """Intermediate features: first the style, then the input of each block, in L1 balls around where its stage began.

    Of each row the image is kept, of whichever stage, that convinces the target model in most views. The authors report
    the stage that the evaluation model likes best, which lets the judge guide the attack. The features are far larger
    than the image, so the image itself is stored as the latent.

    Source: Qiu et al., "A Closer Look at GAN Priors: Exploiting Intermediate Features for Enhanced Model Inversion
    Attacks", ECCV 2024.
    """

    config: IfgmiConfig
    stages = ("score a pool", "descend on styles", "descend on features block by block", "select the stage by views")

    def check(self, *, prior: Prior | None, classes: int) -> None:
        """Refuse a prior without blocks, or with fewer blocks than there are stages."""
        super().check(prior=prior, classes=classes)
        assert prior is not None
        if not isinstance(prior, StagedPrior):
            raise ConfigError(
                f"{self.config.label} searches inside the prior, but {prior.config.kind} has no blocks to begin at: "
                "take a staged prior, such as stylegan2."
            )
        if len(self.config.stage_steps) > prior.blocks:
            raise ConfigError(
                f"stage_steps: {self.config.label} has {len(self.config.stage_steps)} stages, but {prior.config.kind} "
                f"at {prior.image_size} pixels has {prior.blocks} blocks: leave out as many as are too many."
            )

    @property
    def descent(self) -> Descent:
        """Adam, begun again at each stage."""
        descent = super().descent
        return replace(descent, rule=RestartingRule(descent.rule, self._stage_starts))

    def begin(self, access: Access[WhiteBoxOracle], rows: Rows) -> State:
        """The first stage, which searches styles."""
        prior, variables = access.required_prior, self.start(access, rows)
        scores = variables["latents"].new_full((len(rows),), -torch.inf)
        images = scores.new_zeros(len(rows), prior.channels, prior.image_size, prior.image_size)
        return self._begin_stage(variables, 0, {"images": images, "scores": scores})

    def phase(self, step: int) -> int:
        """The stage."""
        return sum(step >= start for start in self._stage_starts) - 1

    def prepare_step(self, access: Access[WhiteBoxOracle], state: State, rows: Rows, step: int) -> State:
        """Begin a new stage where one is due; the authors rank the images of a stage ahead of its last step."""
        if step in self._stage_starts[1:]:
            variables = self._run_block(access, state["variables"], self.phase(step - 1))
            state = self._begin_stage(variables, self.phase(step), state["kept"])
        return self._ranked(access, state, rows, step) if self.config.fidelity == "official" else state

    def finish_step(self, access: Access[WhiteBoxOracle], state: State, rows: Rows, step: int) -> State:
        """Rank the images of a stage after its last step."""
        return self._ranked(access, state, rows, step) if self.config.fidelity == "fixed" else state

    def _ranked(self, access: Access[WhiteBoxOracle], state: State, rows: Rows, step: int) -> State:
        """The search with each row's best image so far, if the step is the last of a stage."""
        if step + 1 not in (*self._stage_starts, self.config.steps):
            return state
        best = self._best_so_far(access, state["variables"], state["kept"], rows, self.phase(step))
        return {**state, "kept": state["kept"] | best}

    def images_of(self, access: Access[WhiteBoxOracle], variables: Variables, rows: Rows, step: Step) -> Tensor:
        """Images of the features that the stage searches."""
        return self._stage_images(access, variables, step.phase)

    def constrain(self, access: Access[WhiteBoxOracle], variables: Variables, kept: State) -> Variables:
        """Project onto the L1 balls around where the stage began."""
        anchors, radii = kept["anchors"], kept["radii"]
        return {
            name: anchors[name] + within_l1_ball(variable - anchors[name], radii[name])
            for name, variable in variables.items()
        }

    def outcome(self, state: State) -> State:
        """The best image of each row."""
        return {"images": state["kept"]["images"]}

    def latents(self, access: Access[WhiteBoxOracle], state: State, rows: Rows) -> tuple[Rows, Tensor]:
        """The images themselves, in place of latents."""
        return rows, state["images"]

    def render(self, access: Access[WhiteBoxOracle], latents: Tensor, rows: Rows) -> Tensor:
        """The images as they are."""
        return latents

    def protocol(self) -> dict[str, Any]:
        """Adds preset, steps of each stage and what chooses between stages."""
        stages = {"preset": self.config.preset, "stage_steps": list(self.config.stage_steps)}
        return super().protocol() | stages | {"stage_selection": self.ranking.name}

    @property
    def _stage_starts(self) -> tuple[int, ...]:
        """The first step of each stage."""
        return tuple(accumulate((0, *self.config.stage_steps[:-1])))

    def _stage_images(self, access: Access[WhiteBoxOracle], variables: Variables, stage: int) -> Tensor:
        _, image = _run(access, variables, first=stage)
        return self.framed(_staged_prior(access).to_data_image(image))

    def _begin_stage(self, variables: Variables, stage: int, kept: State) -> State:
        """The search before the first step of a stage, whose balls lie around the variables as they are now."""
        radius = {
            "latents": self.config.style_radii[stage],
            "features": self.config.feature_radii[stage],
            "colours": 0.0,  # they go with their row and stay as they are
        }
        radii = {name: variable.new_full((len(variable),), radius[name]) for name, variable in variables.items()}
        return {
            "variables": variables,
            "memory": self.descent.rule.begin(variables),
            "kept": {"anchors": variables, "radii": radii, "images": kept["images"], "scores": kept["scores"]},
        }

    @torch.no_grad()
    def _run_block(self, access: Access[WhiteBoxOracle], variables: Variables, block: int) -> Variables:
        """The input of the block after `block`, as variables."""

        def run(batch: slice) -> Variables:
            selected = select(variables, batch)
            features, colours = _run(access, selected, first=block, last=block)
            carried = {} if self.config.fidelity == "official" else {"colours": colours}
            return {"latents": selected["latents"], "features": features, **carried}

        batches = access.batches.run(run, len(variables["latents"]))
        return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}

    @torch.no_grad()
    def _best_so_far(
        self, access: Access[WhiteBoxOracle], variables: Variables, kept: State, rows: Rows, stage: int
    ) -> State:
        """The image of each row, over the stages so far, with the highest score, and that score."""

        def score(batch: slice) -> tuple[Tensor, Tensor]:
            images = self._stage_images(access, select(variables, batch), stage).clamp(0, 1)
            return images, self.ranking.scores(access.target, images, rows[batch])

        batches = access.batches.run(score, len(rows))
        images, scores = (torch.cat(parts) for parts in zip(*batches, strict=True))
        better = scores > kept["scores"]
        return {
            "images": torch.where(better[:, None, None, None], images, kept["images"]),
            "scores": torch.where(better, scores, kept["scores"]),
        }


def _staged_prior(access: Access[WhiteBoxOracle]) -> StagedPrior:
    prior = access.required_prior
    assert isinstance(prior, StagedPrior)  # `Ifgmi.check` refuses others
    return prior


def _run(
    access: Access[WhiteBoxOracle], variables: Variables, *, first: int, last: int | None = None
) -> tuple[Tensor, Tensor]:
    """Features and image after block `last`, from variables that hold the input of block `first`."""
    prior = _staged_prior(access)
    styles = prior.repeat_style(variables["latents"])
    return prior.run_blocks(styles, variables.get("features"), variables.get("colours"), first=first, last=last)
