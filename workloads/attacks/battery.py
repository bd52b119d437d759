"""Several attacks in a row, each on those who still resist: the number a defender should quote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.config import ComponentConfig, Fraction
from workloads.inversion.attack import (
    ATTACKS,
    Access,
    Attack,
    AttackConfig,
    Member,
    Reconstructions,
    check_identities,
    check_takes_names,
)
from workloads.inversion.rows import Rows
from workloads.inversion.selection import best_of_each, robust_confidence
from workloads.observation.oracles import LabelOracle
from workloads.observation.views import RandomView, ViewConfig
from workloads.priors.base import Prior, PriorConfig

PARTS = ("images", "identities", "scores")


class BatteryConfig(AttackConfig):
    kind: Literal["battery"] = "battery"
    attacks: Annotated[tuple[Annotated[AttackConfig, ATTACKS], ...], Field(min_length=2)]
    """In this order: the cheapest first."""
    identities: PositiveInt | None = None
    """Attack the first so many classes; all where omitted. Those of the attacks themselves are ignored."""
    keep: PositiveInt = 1
    """Reconstructions kept of each identity, over all attacks."""
    falls_at: Fraction = 0.9
    """An identity falls when the target model's mean confidence in one of its reconstructions, over random views, is at
    least this; the next attack leaves it alone."""
    views: PositiveInt = 20
    view: ViewConfig = ViewConfig(scale=(0.5, 0.9), ratio=(0.8, 1.25), flip=0.5)

    @field_validator("attacks")
    @classmethod
    def _distinct(cls, attacks: tuple[AttackConfig, ...]) -> tuple[AttackConfig, ...]:
        labels = [attack.label for attack in attacks]
        for index, label in enumerate(labels):
            if label in labels[:index]:
                raise ValueError(f"{label!r} is there already: give it a name of its own")
        if any(len(attack.members()) > 1 for attack in attacks):
            raise ValueError("a battery holds no battery: list its attacks")
        return attacks

    def members(self) -> tuple[Member, ...]:
        return tuple(attack.members()[0] for attack in self._attacks)

    def with_prior(self, prior: PriorConfig | None) -> Self:
        return self.model_copy(update={"attacks": tuple(attack.with_prior(prior) for attack in self._attacks)})

    def against(self, defenses: Sequence[ComponentConfig]) -> AttackConfig:
        known = tuple(attack.against(defenses) for attack in self._attacks)
        # Against an undefended target an attack that knows the defense is its host, which may be there already.
        distinct = {own.model_dump_json(): own for own in reversed(known)}.values()
        return self.model_copy(update={"attacks": tuple(reversed(tuple(distinct)))})

    @property
    def _attacks(self) -> tuple[AttackConfig, ...]:
        return self.attacks


@ATTACKS.register(BatteryConfig)
class Battery(Attack[LabelOracle]):
    """The worst case over a list of attacks: each is run only on the identities that all before it left standing.

    Who fell is for the target model alone to say, by its confidence over random views, since an attacker has no other
    judge; what is kept of an identity are the reconstructions with the highest such confidence, whichever attack made
    them.

    Source: this project, after Croce and Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of
    Diverse Parameter-Free Attacks", ICML 2020.
    """

    oracle = LabelOracle
    config: BatteryConfig
    stages = ("attack", "who resists?", "attack those", "select")

    @classmethod
    def facts(cls, config: Any) -> dict[str, str]:
        return super().facts(config) | {"access": "that of its attacks"}

    @classmethod
    def check(cls, config: Any, *, prior: Prior | None, classes: int) -> None:
        """Its attacks are checked one by one, each with its prior; this is about the whole."""
        check_identities(config, classes)
        for attack in config.attacks:
            check_takes_names(attack)

    def run(self, access: Access[LabelOracle], identities: Tensor, *, context: JobContext) -> Reconstructions:
        saved = context.resume() or {"done": {}, "inner": None}
        done: State = saved["done"]
        for number, config in enumerate(self.config.attacks):
            given, name = access.members[number], str(number)
            if name not in done:
                standing = self._standing(identities, done)
                inner, saved["inner"] = saved["inner"], None
                part = context.nested(name, saved=inner, wrap=lambda state: {"done": done, "inner": state})
                done[name] = self._attacked(config, given, standing, part)
            given.target.queries = done[name]["queries"]
        return self._joined(done)

    def _standing(self, identities: Tensor, done: State) -> Tensor:
        """Identities that no attack so far has felled."""
        fell = {
            int(identity)
            for own in done.values()
            for identity, score in zip(own["identities"], own["scores"], strict=True)
            if score >= self.config.falls_at
        }
        return torch.tensor([own for own in identities.tolist() if own not in fell], dtype=torch.int64)

    def _attacked(self, config: Any, access: Access[Any], standing: Tensor, context: JobContext) -> State:
        """What one attack leaves of the identities that still stand."""
        if not len(standing):
            empty = torch.zeros(0, access.channels, access.image_size, access.image_size)
            nobody = {"images": empty, "identities": standing, "scores": torch.zeros(0)}
            return nobody | {"queries": 0, "latent_steps": 0, "attacked": 0}
        made = ATTACKS.build(config).run(access, standing, context=context)
        rows = Rows(made.identities[made.kept], made.restarts[made.kept], context.key)
        images = made.images[made.kept]

        def judged(part: slice) -> Tensor:
            shown, view = images[part].to(access.device), RandomView(self.config.view)
            return robust_confidence(access.target, shown, rows[part], views=self.config.views, view=view).cpu()

        scores = torch.cat(access.parts.run(judged, len(rows)))
        numbers = {"queries": access.target.queries, "latent_steps": made.latent_steps, "attacked": len(standing)}
        return {"images": images, "identities": rows.identities, "scores": scores, **numbers}

    def _joined(self, done: State) -> Reconstructions:
        images, identities, scores = (torch.cat([own[name] for own in done.values()]) for name in PARTS)
        restarts = torch.cat([torch.full((len(own["scores"]),), int(number)) for number, own in done.items()])
        labels = [config.label for config in self.config.attacks]
        return Reconstructions(
            images=images,
            latents=torch.zeros(len(images), 0),  # they belong to different priors
            identities=identities,
            restarts=restarts,
            scores=scores,
            kept=best_of_each(scores, identities, keep=self.config.keep),
            queries=sum(own["queries"] for own in done.values()),
            latent_steps=sum(own["latent_steps"] for own in done.values()),
            facts={"attacked": {label: own["attacked"] for label, own in zip(labels, done.values(), strict=True)}},
        )

    def protocol(self) -> dict[str, Any]:
        members = [ATTACKS.build(config).protocol() for config in self.config.attacks]
        return {
            "attack": "battery",
            "access": ", ".join(dict.fromkeys(own["access"] for own in members)),
            "steps": sum(own["steps"] for own in members),
            "restarts": max(own["restarts"] for own in members),
            "made": sum(own["made"] for own in members),
            "kept": self.config.keep,
            "selection": f"best {self.config.keep} by target confidence over {self.config.views} views",
            "falls_at": self.config.falls_at,
            "attacks": members,
        }
