"""IF-GMI: descend on styles first, then block by block on the features inside the generator, near where each began."""

from __future__ import annotations

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
from workloads.inversion.optimizers import Afresh, Rule, Variables
from workloads.inversion.rows import Rows, select
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
    """Defaults are those of the authors' code for CelebA and FFHQ, whose five stages need a prior of 64 pixels or more.

    `fidelity: official` drops the colours that earlier blocks added when a stage begins, and judges the images of a
    stage as they were before its last step, beside what it does to the pool. `fixed` carries the colours along.
    """

    kind: Literal["ifgmi"] = "ifgmi"
    preset: Annotated[Literal["facescrub", "celeba_ffhq", "celeba_metfaces", "dogs"] | None, Preset()] = None
    """The authors' steps, pool and rate for a data set, whose fields a spec may override one by one."""
    restarts: PositiveInt = 50
    keep: PositiveInt = 50
    pool: PositiveInt = 5000
    stage_steps: tuple[PositiveInt, ...] = (70, 25, 25, 25, 25)
    """Steps of each stage; stage i searches what block i of the prior is given, so there are as many blocks or more."""
    steps: ClassVar[Any] = property(lambda config: sum(config.stage_steps))  # type: ignore[misc]
    style_radii: tuple[PositiveFloat, ...] = RADII
    """How far a style may move from where each stage began, as the sum of absolute differences."""
    feature_radii: tuple[PositiveFloat, ...] = RADII
    """The same for features; the first stage has none, and leaves its radius unread."""
    selection_views: PositiveInt = 10
    """Of the image of each stage; ours, since the authors choose the stage by the evaluation model."""
    batch_reference: PositiveInt = 5
    chunk_rows: PositiveInt = 16
    """Features of one row take megabytes, and Adam remembers them twice."""
    converged: None = None
    """Rows do not end early, for a stage is judged when its steps are over."""

    @model_validator(mode="before")
    @classmethod
    def _begin_with_preset(cls, given: Any) -> Any:
        return with_preset(PRESETS.get(str(given.get("preset")), {}), given) if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _every_stage_has_its_radii(self) -> IfgmiConfig:
        fewest = min(len(self.style_radii), len(self.feature_radii))
        if not 1 <= len(self.stage_steps) <= fewest:
            raise ValueError(f"there are {len(self.stage_steps)} stages, but radii for {fewest}: name one for each")
        return self


@ATTACKS.register(IfgmiConfig)
class Ifgmi(StyleSearch):
    """Intermediate features: after the style, what each block is given, in L1 balls about where its stage began.

    Of each row the stage is kept whose image convinces the target model in most views. The authors report the stage
    that the evaluation model likes best, which leaks the judgement into the attack. Features are far larger than the
    image they come to, so what is stored as a latent is the image.

    Source: Qiu et al., "A Closer Look at GAN Priors: Exploiting Intermediate Features for Enhanced Model Inversion
    Attacks", ECCV 2024.
    """

    config: IfgmiConfig
    stages = ("score a pool", "descend on styles", "descend on features block by block", "select the stage by views")

    @classmethod
    def check(cls, config: Any, *, prior: Prior | None, classes: int) -> None:
        super().check(config, prior=prior, classes=classes)
        assert prior is not None
        if not isinstance(prior, StagedPrior):
            raise ConfigError(
                f"{config.label} searches inside the prior, but {prior.config.kind} has no blocks to begin at: "
                "take a staged prior."
            )
        if len(config.stage_steps) > prior.blocks:
            raise ConfigError(
                f"stage_steps: {config.label} has {len(config.stage_steps)} stages, but {prior.config.kind} at "
                f"{prior.image_size} pixels has {prior.blocks} blocks: leave out as many as are too many."
            )

    @property
    def rule(self) -> Rule:
        return Afresh(super().rule, self._starts)

    def begin(self, access: Access[WhiteBoxOracle], rows: Rows) -> State:
        prior, variables = access.generator, self.start(access, rows)
        scores = variables["latents"].new_full((len(rows),), -torch.inf)
        images = scores.new_zeros(len(rows), prior.channels, prior.image_size, prior.image_size)
        return self._stage_of(variables, 0, {"images": images, "scores": scores})

    def advance(self, access: Access[WhiteBoxOracle], state: State, rows: Rows, step: int) -> tuple[State, Tensor]:
        if step in self._starts[1:]:
            given = self._through(access, state["variables"], self._stage(step - 1))
            state = self._stage_of(given, self._stage(step), state["kept"])
        moved, losses = super().advance(access, state, rows, step)
        if step + 1 in (*self._starts, self.config.steps):
            shown = state if self.config.fidelity == "official" else moved
            judged = self._judged(access, shown["variables"], moved["kept"], rows, step)
            moved = {**moved, "kept": moved["kept"] | judged}
        return moved, losses

    def images_of(self, access: Access[WhiteBoxOracle], variables: Variables, rows: Rows, step: int) -> Tensor:
        _, image = _run(access, variables, first=self._stage(step))
        return self.framed(_blocks_of(access).to_data_image(image))

    def constrain(self, access: Access[WhiteBoxOracle], variables: Variables, kept: State) -> Variables:
        anchors, radii = kept["anchors"], kept["radii"]
        return {
            name: anchors[name] + within_l1_ball(own - anchors[name], radii[name]) for name, own in variables.items()
        }

    def outcome(self, state: State) -> State:
        return {"images": state["kept"]["images"]}

    def latents(self, access: Access[WhiteBoxOracle], state: State, rows: Rows) -> tuple[Rows, Tensor]:
        return rows, state["images"]

    def render(self, access: Access[WhiteBoxOracle], latents: Tensor, rows: Rows) -> Tensor:
        return latents

    def protocol(self) -> dict[str, Any]:
        asked = {"preset": self.config.preset, "stage_steps": list(self.config.stage_steps)}
        return super().protocol() | asked | {"stage_selection": self.selection}

    @property
    def _starts(self) -> tuple[int, ...]:
        """The first step of each stage."""
        return tuple(accumulate((0, *self.config.stage_steps[:-1])))

    def _stage(self, step: int) -> int:
        return sum(step >= start for start in self._starts) - 1

    def _stage_of(self, given: Variables, stage: int, kept: State) -> State:
        """A stage before its first step."""
        radii = {
            "latents": self.config.style_radii[stage],
            "features": self.config.feature_radii[stage],
            "colours": 0.0,  # they go with their row and stay as they are
        }
        balls = {name: own.new_full((len(own),), radii[name]) for name, own in given.items()}
        return {
            "variables": given,
            "memory": self.rule.begin(given),
            "kept": {"anchors": given, "radii": balls, "images": kept["images"], "scores": kept["scores"]},
        }

    @torch.no_grad()
    def _through(self, access: Access[WhiteBoxOracle], variables: Variables, block: int) -> Variables:
        """What the block after `block` is given."""

        def run(part: slice) -> Variables:
            own = select(variables, part)
            features, colours = _run(access, own, first=block, last=block)
            carried = {} if self.config.fidelity == "official" else {"colours": colours}
            return {"latents": own["latents"], "features": features, **carried}

        parts = access.parts.run(run, len(variables["latents"]))
        return {name: torch.cat([own[name] for own in parts]) for name in parts[0]}

    @torch.no_grad()
    def _judged(
        self, access: Access[WhiteBoxOracle], variables: Variables, kept: State, rows: Rows, step: int
    ) -> State:
        """The images of the stages so far that convince the target model most, and how much they do."""

        def judge(part: slice) -> tuple[Tensor, Tensor]:
            images = self.images_of(access, select(variables, part), rows[part], step).clamp(0, 1)
            return images, self.scores(access, images, rows[part])

        images, scores = (torch.cat(own) for own in zip(*access.parts.run(judge, len(rows)), strict=True))
        better = scores > kept["scores"]
        return {
            "images": torch.where(better[:, None, None, None], images, kept["images"]),
            "scores": torch.where(better, scores, kept["scores"]),
        }


def _blocks_of(access: Access[WhiteBoxOracle]) -> StagedPrior:
    prior = access.generator
    assert isinstance(prior, StagedPrior)
    return prior


def _run(
    access: Access[WhiteBoxOracle], variables: Variables, *, first: int, last: int | None = None
) -> tuple[Tensor, Tensor]:
    """Features and image after block `last`, from what the variables hold of those before block `first`."""
    prior = _blocks_of(access)
    styles = prior.repeat_style(variables["latents"])
    return prior.run_blocks(styles, variables.get("features"), variables.get("colours"), first=first, last=last)
