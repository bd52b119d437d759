"""BREP-MI: move latents away from nearby points that the target labels differently, knowing labels alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.config import Steps
from workloads.core.errors import ConfigError
from workloads.inversion.attack import ATTACKS, Access, SearchConfig
from workloads.inversion.row_search import RowSearch
from workloads.inversion.rows import Rows
from workloads.inversion.selection import TargetScore
from workloads.inversion.step import Step
from workloads.observation.oracles import LabelOracle
from workloads.priors.base import Prior

FULL = 0.75  # of the points: a sphere grows where those inside outnumber those outside by more
DRAW_BATCH = 256  # latents


class BrepmiConfig(SearchConfig):
    """Settings of BREP-MI; the defaults are those of the authors' code, with bounds that it lacks.

    Unlike the authors, it attacks the identities it is told to: see `fidelity`.
    """

    version: ClassVar[int] = 4
    kind: Literal["brepmi"] = "brepmi"
    restarts: PositiveInt = 1
    """Starts of each identity: the first random latents that the target model names so."""
    steps: Steps = 10_000
    """Most moves tried from a start. The authors have no such bound and may never end on a thin boundary, because
    moves that are refused do not count for `patience`."""
    draws: PositiveInt = 25_600
    """Most random latents labelled in search of starts. Identities without a start fail: their images score 0."""
    points: PositiveInt = 32
    """Points on the sphere around a latent that are labelled at each move."""
    radius: PositiveFloat = 2.0
    """Radius of the first sphere, in latent units."""
    growth: Annotated[float, Field(gt=1)] = 1.3
    """Factor by which the radius grows once nearly all points on the sphere keep the label."""
    largest_radius: PositiveFloat = 1000.0
    """Radius that ends a search: only a target that names one class nearly everywhere lets a sphere grow so large."""
    longest_step: PositiveFloat = 3.0
    """Longest move; a move is a third of the radius and at most this."""
    bound: PositiveFloat = 1.5
    """Largest absolute value of a latent number; points on a sphere may lie outside."""
    patience: PositiveInt = 1000
    """Accepted moves without growth after which a search ends."""
    repulsion_only: bool = True
    """Ignore points with the wanted label; otherwise they attract as the others repel."""
    fidelity: Literal["fixed", "official"] = "fixed"
    """`official` attacks the first labels that random latents hit, as many as there are identities to attack. These
    are the easy ones, and published numbers are of them."""


@ATTACKS.register(BrepmiConfig)
class Brepmi(RowSearch[LabelOracle]):
    """Boundary repulsion: a latent moves away from points on a sphere around it that the target labels differently.

    Where nearly all points keep the label the sphere grows, so that the latent ends far inside. As in the authors' code
    the step follows the radius before growth and the direction is divided by the one after it.

    Source: Kahla et al., "Label-Only Model Inversion Attacks via Boundary Repulsion", CVPR 2022.
    """

    oracle: ClassVar[type[LabelOracle]] = LabelOracle
    stages = ("find a start", "move off the boundary", "select")
    config: BrepmiConfig

    def check(self, *, prior: Prior | None, classes: int) -> None:
        """Refuse a conditional prior: latents are drawn before their identity is known."""
        super().check(prior=prior, classes=classes)
        if prior is not None and prior.conditional:
            raise ConfigError(
                f"{self.config.label} draws latents before it knows their identity, but {prior.config.kind} has to be "
                "told the identity: give the attack another prior, for example prior: {kind: wgan_gp}."
            )

    @property
    def ranking(self) -> TargetScore:
        """Reconstructions with the wanted label score 1, others 0."""
        return TargetScore("target label")

    @property
    def picks_identities(self) -> bool:
        """With official fidelity it attacks the labels that random latents hit first."""
        return self.config.fidelity == "official"

    @torch.no_grad()
    def prepare(self, access: Access[LabelOracle], identities: Tensor, *, context: JobContext) -> State:
        """Starts of each identity. Shape: identities and labels (I,), starts (I, restarts, Z), found (I, restarts)."""
        latents: list[Tensor] = []
        labels = torch.empty(0, dtype=torch.int64)
        most = max(self.config.draws, self.config.restarts)
        while len(labels) < most and not self._is_enough(labels, identities):
            batch = self.pool(access, len(latents), context=context).clamp(-self.config.bound, self.config.bound)
            latents.append(batch)
            labels = torch.cat((labels, _labels(access, batch.to(access.device)).cpu()))
        attacked = self._attacked(labels, identities)
        # Latents with the label come first, in order. The others are no starts: their images score 0.
        order = torch.stack(
            [(labels != label).int().argsort(stable=True)[: self.config.restarts] for label in attacked]
        )
        is_start = labels[order] == attacked[:, None]
        context.report(0, self.config.steps, {"starts_found": is_start.double().mean().item()})
        starts = torch.cat(latents)[order]
        return {"identities": identities, "labels": attacked, "starts": starts, "found": is_start}

    def pool(self, access: Access[LabelOracle], batch: int, *, context: JobContext) -> Tensor:
        """A batch of random latents, by its number. Shape: (N, Z), on the CPU."""
        draws = context.generator("pool", batch)
        return torch.randn(DRAW_BATCH, access.required_prior.latent_size, generator=draws)

    def _is_enough(self, labels: Tensor, identities: Tensor) -> bool:
        """Whether the labels hold enough starts for all identities to attack."""
        often = labels.bincount(minlength=int(identities.max()) + 1) >= self.config.restarts
        counted = often if self.config.fidelity == "official" else often[identities]
        return int(counted.sum()) >= len(identities)

    def _attacked(self, labels: Tensor, identities: Tensor) -> Tensor:
        """The labels to attack: the identities, or the labels hit first, filled up with the identities not hit."""
        if self.config.fidelity == "fixed":
            return identities.clone()
        times = self.config.restarts
        hits = {label: (labels == label).nonzero().flatten().tolist() for label in labels.unique().tolist()}
        hit_often = (label for label in hits if len(hits[label]) >= times)
        first = sorted(hit_often, key=lambda label: hits[label][times - 1])
        others = [identity for identity in identities.tolist() if identity not in first]
        return torch.tensor([*first, *others][: len(identities)])

    def begin(self, access: Access[LabelOracle], rows: Rows) -> State:
        """Each row at its start, with the first radius."""
        findings = access.findings
        number = (rows.identities[:, None] == findings["identities"]).int().argmax(1)
        return {
            "centre": findings["starts"][number, rows.restarts],
            "label": findings["labels"][number],
            "found": findings["found"][number, rows.restarts],
            "radius": torch.full((len(rows),), self.config.radius, device=access.device),
            "moves": torch.zeros_like(number),
            "grown_at": torch.zeros_like(number),
        }

    @torch.no_grad()
    def move(self, access: Access[LabelOracle], state: State, rows: Rows, step: Step) -> tuple[State, Tensor]:
        """Label the points on each row's sphere, move away from those outside, and grow the sphere if nearly all are
        inside."""
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

    def _directions(self, rows: Rows, size: int, step: Step) -> Tensor:
        """Uniform directions on the unit sphere. Shape: (B, points, Z)."""
        normal = rows.normal(self.config.points * size, "sphere", step=step.counter)
        return F.normalize(normal.unflatten(1, (self.config.points, size)), dim=2)

    def settled(self, state: State) -> Tensor:
        """A row is done without a start, without growth for `patience` moves, or at the largest radius."""
        waits = state["moves"] - state["grown_at"] >= self.config.patience
        return waits | ~state["found"] | (state["radius"] > self.config.largest_radius)

    def outcome(self, state: State) -> State:
        """The centre of each row's last sphere."""
        return {"centre": state["centre"], "label": state["label"]}

    def latents(self, access: Access[LabelOracle], state: State, rows: Rows) -> tuple[Rows, Tensor]:
        """The centres; with official fidelity the rows take the identities that were attacked."""
        return replace(rows, identities=state["label"]), state["centre"]

    def render(self, access: Access[LabelOracle], latents: Tensor, rows: Rows) -> Tensor:
        """Images of latents, whatever their identity."""
        return _images(access, latents)

    def planned_queries(self, identities: int) -> int:
        """Adds the first draws; how long it moves depends on the target model."""
        return super().planned_queries(identities) + DRAW_BATCH

    def protocol(self) -> dict[str, Any]:
        """Adds which identities were attacked, and the number of points."""
        attacked = "first hit" if self.config.fidelity == "official" else "fixed"
        return super().protocol() | {"attacked": attacked, "points": self.config.points}


def _images(access: Access[LabelOracle], latents: Tensor) -> Tensor:
    return access.required_prior.synthesize(access.required_prior.map(latents)).clamp(0, 1)


def _labels(access: Access[LabelOracle], latents: Tensor) -> Tensor:
    """The labels of the images of latents. Shape: (N, Z) to (N,) int64."""
    batches = access.batches.run(lambda batch: access.target.labels(_images(access, latents[batch])), len(latents))
    return torch.cat(batches)


def _sides(access: Access[LabelOracle], latents: Tensor, labels: Tensor) -> Tensor:
    """1 where the image of a latent has its row's label, else -1. Shape: (B, N, Z), (B,) to (B, N)."""
    image_labels = _labels(access, latents.flatten(0, 1)).view(latents.shape[:2])
    return 2 * (image_labels == labels[:, None]).to(latents) - 1
