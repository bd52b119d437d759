"""BREP-MI: move away from the points around a latent that the target no longer names so, knowing labels alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.errors import ConfigError
from workloads.inversion.attack import ATTACKS, Access, SearchConfig
from workloads.inversion.row_search import SearchAttack
from workloads.inversion.rows import Rows
from workloads.observation.oracles import LabelOracle
from workloads.priors.base import Prior

FULL = 0.75  # of the points: a sphere grows where those inside outnumber those outside by more
DRAWN_AT_ONCE = 256


class BrepmiConfig(SearchConfig):
    """Defaults are those of the authors' code, but for the identities and for the bounds that it lacks."""

    version: ClassVar[int] = 2
    kind: Literal["brepmi"] = "brepmi"
    restarts: PositiveInt = 1
    """Starts of each identity: the first so many random latents that the target names so."""
    steps: PositiveInt = 10_000
    """Most moves tried from a start. The authors have no such bound, and on a thin boundary may go on for ever: moves
    that are refused do not count for `patience`."""
    draws: PositiveInt = 25_600
    """Most random latents asked about in search of starts. Identities without one fail: their images score 0."""
    points: PositiveInt = 32
    """Asked about on the sphere around a latent, at each move."""
    radius: PositiveFloat = 2.0
    """Of the first sphere."""
    growth: Annotated[float, Field(gt=1)] = 1.3
    largest_radius: PositiveFloat = 1000.0
    """Ends a search: only a target that names one class nearly everywhere lets a sphere grow so large."""
    longest_step: PositiveFloat = 3.0
    """A step is a third of the radius and at most this."""
    bound: PositiveFloat = 1.5
    """Of every latent number, but for the points on a sphere."""
    patience: PositiveInt = 1000
    """Moves without growth after which a search ends."""
    repulsion_only: bool = True
    """Leave points inside alone; else they attract as points outside repel."""
    fidelity: Literal["fixed", "official"] = "fixed"
    """`official` attacks the first labels that random latents hit, as many as there are identities to attack. These
    are the easy ones; published numbers are of them."""


@ATTACKS.register(BrepmiConfig)
class Brepmi(SearchAttack[LabelOracle]):
    """Boundary repulsion: a latent moves away from those points on a sphere around it that the target names otherwise.

    Where nearly all points keep the name the sphere grows, so that the latent ends far inside. As in the authors' code
    the step follows the radius before growth and the direction is divided by the one after it.

    Source: Kahla et al., "Label-Only Model Inversion Attacks via Boundary Repulsion", CVPR 2022.
    """

    oracle: ClassVar[type[LabelOracle]] = LabelOracle
    stages = ("find a start", "move off the boundary", "select")
    selection = "target label"
    config: BrepmiConfig

    @classmethod
    def check(cls, config: BrepmiConfig, *, prior: Prior | None, classes: int) -> None:
        super().check(config, prior=prior, classes=classes)
        if prior is not None and prior.conditional:
            raise ConfigError(
                f"{config.label} draws latents before it knows whose they are, but {prior.config.kind} is told whom "
                "to show: give the attack another prior, as prior: {kind: wgan_gp}."
            )

    @classmethod
    def picks_identities(cls, config: BrepmiConfig) -> bool:
        return config.fidelity == "official"

    @torch.no_grad()
    def prepare(self, access: Access[LabelOracle], identities: Tensor, *, context: JobContext) -> State:
        """Starts of each identity. Shape: identities and labels (I,), starts (I, restarts, Z), found (I, restarts)."""
        latents: list[Tensor] = []
        labels = torch.empty(0, dtype=torch.int64)
        most = max(self.config.draws, self.config.restarts)
        while len(labels) < most and not self._is_enough(labels, identities):
            fresh = self.pool(access, len(latents), context=context).clamp(-self.config.bound, self.config.bound)
            latents.append(fresh)
            labels = torch.cat((labels, _names(access, fresh.to(access.device)).cpu()))
        attacked = self._attacked(labels, identities)
        # Latents named so come first, in order. What follows is no start: its image is named otherwise and scores 0.
        order = [(labels != own).int().argsort(stable=True)[: self.config.restarts] for own in attacked]
        found = torch.stack([labels[own] == whose for own, whose in zip(order, attacked, strict=True)])
        context.report(0, self.config.steps, {"starts_found": found.double().mean().item()})
        starts = torch.cat(latents)[torch.stack(order)]
        return {"identities": identities, "labels": attacked, "starts": starts, "found": found}

    def pool(self, access: Access[LabelOracle], batch: int, *, context: JobContext) -> Tensor:
        """A batch of random latents. Shape: (N, Z), on the CPU."""
        draws = context.generator("pool", batch)
        return torch.randn(DRAWN_AT_ONCE, access.generator.latent_size, generator=draws)

    def _is_enough(self, labels: Tensor, identities: Tensor) -> bool:
        often = labels.bincount(minlength=int(identities.max()) + 1) >= self.config.restarts
        wanted = often if self.config.fidelity == "official" else often[identities]
        return int(wanted.sum()) >= len(identities)

    def _attacked(self, labels: Tensor, identities: Tensor) -> Tensor:
        """Whom to attack: the identities, or the labels hit first and as many of the others as are missing."""
        if self.config.fidelity == "fixed":
            return identities.clone()
        times = self.config.restarts
        hits = {own: (labels == own).nonzero().flatten().tolist() for own in labels.unique().tolist()}
        first = sorted((own for own in hits if len(hits[own]) >= times), key=lambda own: hits[own][times - 1])
        others = [own for own in identities.tolist() if own not in first]
        return torch.tensor([*first, *others][: len(identities)])

    def begin(self, access: Access[LabelOracle], rows: Rows) -> State:
        known = access.findings
        number = (rows.identities[:, None] == known["identities"].cpu()).int().argmax(1).to(access.device)
        restart = rows.restarts.to(access.device)
        return {
            "centre": known["starts"][number, restart],
            "label": known["labels"][number],
            "found": known["found"][number, restart],
            "radius": torch.full((len(rows),), self.config.radius, device=access.device),
            "moves": torch.zeros_like(number),
            "grown_at": torch.zeros_like(number),
        }

    @torch.no_grad()
    def advance(self, access: Access[LabelOracle], state: State, rows: Rows, step: int) -> tuple[State, Tensor]:
        centre, radius, label = state["centre"], state["radius"], state["label"]
        offsets = radius[:, None, None] * self._directions(rows, centre.shape[1], step).to(centre)
        inside = _sides(access, centre[:, None] + offsets, label)
        grows = inside.sum(1) > FULL * self.config.points
        grown = torch.where(grows, self.config.growth * radius, radius)
        weights = (inside - 1) / 2 if self.config.repulsion_only else inside
        direction = (weights[:, :, None] * offsets).mean(1) / grown[:, None]
        length = (radius / 3).clamp(max=self.config.longest_step)
        moved = (centre + length[:, None] * direction).clamp(-self.config.bound, self.config.bound)
        accepted = state["found"] & (_sides(access, moved[:, None], label).flatten() > 0)
        return {
            **state,
            "centre": torch.where(accepted[:, None], moved, centre),
            "radius": grown,
            "moves": state["moves"] + (accepted & ~grows),
            "grown_at": torch.where(grows, state["moves"], state["grown_at"]),
        }, -grown

    def _directions(self, rows: Rows, size: int, step: int) -> Tensor:
        """Uniform on the unit sphere. Shape: (B, points, Z), on the CPU."""
        drawn = rows.normal(self.config.points * size, "sphere", step)
        return F.normalize(drawn.unflatten(1, (self.config.points, size)), dim=2)

    def settled(self, state: State) -> Tensor:
        waits = state["moves"] - state["grown_at"] >= self.config.patience
        return waits | ~state["found"] | (state["radius"] > self.config.largest_radius)

    def outcome(self, state: State) -> State:
        return {"centre": state["centre"], "label": state["label"]}

    def latents(self, access: Access[LabelOracle], state: State, rows: Rows) -> tuple[Rows, Tensor]:
        return replace(rows, identities=state["label"].cpu()), state["centre"]

    def render(self, access: Access[LabelOracle], latents: Tensor, rows: Rows) -> Tensor:
        return _images(access, latents)

    def protocol(self) -> dict[str, Any]:
        attacked = "first hit" if self.config.fidelity == "official" else "fixed"
        return super().protocol() | {"attacked": attacked, "points": self.config.points}


def _images(access: Access[LabelOracle], latents: Tensor) -> Tensor:
    return access.generator.synthesize(access.generator.map(latents)).clamp(0, 1)


def _names(access: Access[LabelOracle], latents: Tensor) -> Tensor:
    """What the target names the images of latents. Shape: (N, Z) to (N,) int64."""
    return torch.cat(access.parts.run(lambda part: access.target.labels(_images(access, latents[part])), len(latents)))


def _sides(access: Access[LabelOracle], latents: Tensor, labels: Tensor) -> Tensor:
    """1 where the target names an image as its row wants, else -1. Shape: (B, N, Z), (B,) to (B, N)."""
    named = _names(access, latents.flatten(0, 1)).view(latents.shape[:2])
    return 2 * (named == labels[:, None]).to(latents) - 1
