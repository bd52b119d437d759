"""Several attacks in a row, each on the identities that still resist: the number a defender should quote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.config import Fraction
from workloads.defenses.base import DefenseConfig
from workloads.inversion.attack import (
    ATTACKS,
    Access,
    Attack,
    AttackConfig,
    Reconstructions,
    check_attacks_given_identities,
)
from workloads.inversion.identity_choice import IdentityChoice
from workloads.inversion.rows import Rows
from workloads.inversion.selection import best_of_each, robust_confidence
from workloads.observation.oracles import LabelOracle
from workloads.observation.views import RandomView, ViewConfig
from workloads.priors.base import Prior, PriorConfig

JOINED = ("images", "identities", "scores")


class BatteryConfig(AttackConfig):
    """Settings of a series of attacks."""

    prior: ClassVar[None] = None
    needs_prior: ClassVar[bool] = False

    version: ClassVar[int] = 2
    kind: Literal["battery"] = "battery"
    attacks: Annotated[tuple[Annotated[AttackConfig, ATTACKS], ...], Field(min_length=2)]
    """The attacks, in this order: the cheapest first."""
    identities: IdentityChoice = None
    """Who is attacked: a number for the first N identities, a list of names, or `{count: 20, draw: random}`; `all`,
    the default, for everybody. The attacks' own settings of it are ignored."""
    keep: PositiveInt = 1
    """Reconstructions kept per identity, over all attacks."""
    falls_at: Fraction = 0.9
    """An identity falls when the target model's mean confidence in one of its reconstructions, over random views, is at
    least this; the next attack leaves it alone."""
    views: PositiveInt = 20
    """Random views that the confidence is averaged over."""
    view: ViewConfig = ViewConfig(scale=(0.5, 0.9), ratio=(0.8, 1.25), flip=0.5)
    """The random views."""

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

    @property
    def candidates_per_identity(self) -> int:
        """Reconstructions that the attacks make of each identity together, if none falls before the last."""
        return sum(attack.candidates_per_identity for attack in self.attacks)

    def members(self) -> tuple[AttackConfig, ...]:
        """The attacks of the list, in their order."""
        return tuple(member for attack in self.attacks for member in attack.members())

    def with_prior(self, prior: PriorConfig | None) -> Self:
        """Give the prior to every attack of the list that needs one and names none."""
        return self.model_copy(update={"attacks": tuple(attack.with_prior(prior) for attack in self.attacks)})

    def against(self, defenses: Sequence[DefenseConfig]) -> AttackConfig:
        """Let every attack know the defenses; attacks that then are the same run once."""
        informed = tuple(attack.against(defenses) for attack in self.attacks)
        # Against an undefended target an attack that knows the defense is its host, which may be there already.
        distinct = {attack.model_dump_json(): attack for attack in reversed(informed)}.values()
        return self.model_copy(update={"attacks": tuple(reversed(tuple(distinct)))})


@ATTACKS.register(BatteryConfig)
class Battery(Attack[LabelOracle]):
    """The worst case over a list of attacks: each runs only on the identities that resisted all attacks before it.

    The target model alone decides which identities fell, by its confidence over random views: an attacker has no other
    judge. The
    reconstructions kept of an identity are those with the highest such confidence, of whichever attack.

    Source: this project, after Croce and Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of
    Diverse Parameter-Free Attacks", ICML 2020.
    """

    oracle = LabelOracle
    config: BatteryConfig
    stages = ("attack", "find the identities still standing", "attack those", "select")

    def __init__(self, config: BatteryConfig) -> None:
        super().__init__(config)
        self.attacks = [ATTACKS.build(attack) for attack in config.attacks]

    @classmethod
    def facts(cls, config: type[AttackConfig]) -> dict[str, str]:
        """The access is that of the attacks in the list."""
        return super().facts(config) | {"access": "that of its attacks"}

    def check(self, *, prior: Prior | None, classes: int) -> None:
        """Check the battery as such; its attacks are checked one by one, each with its own prior."""
        super().check(prior=prior, classes=classes)
        for attack in self.attacks:
            check_attacks_given_identities(attack)

    def run(self, access: Access[LabelOracle], identities: Tensor, *, context: JobContext) -> Reconstructions:
        """Run the attacks in order, each on the identities that still stand."""
        saved = context.resume() or {"done": {}, "inner": None}
        done: State = saved["done"]
        for number, attack in enumerate(self.attacks):
            member_access, name = access.members[number], str(number)
            if name not in done:
                standing = self._standing(identities, done)
                inner, saved["inner"] = saved["inner"], None
                nested = context.nested(name, saved=inner, wrap=lambda state: {"done": done, "inner": state})
                done[name] = self._run_attack(attack, member_access, standing, nested)
            member_access.target.queries = done[name]["queries"]
        return self._joined(done)

    def _standing(self, identities: Tensor, done: State) -> Tensor:
        """Identities that every attack so far has failed on."""
        fallen = {
            int(identity)
            for results in done.values()
            for identity, score in zip(results["identities"], results["scores"], strict=True)
            if score >= self.config.falls_at
        }
        return torch.tensor([identity for identity in identities.tolist() if identity not in fallen], dtype=torch.int64)

    def _run_attack(
        self, attack: Attack[Any], access: Access[LabelOracle], standing: Tensor, context: JobContext
    ) -> State:
        """The results of one attack on the identities that still stand."""
        if not len(standing):
            empty = torch.zeros(0, access.channels, access.image_size, access.image_size)
            nothing = {"images": empty, "identities": standing, "scores": torch.zeros(0)}
            return nothing | {"queries": 0, "latent_steps": 0, "attacked": 0}
        reconstructions = attack.run(access, standing, context=context)
        kept = reconstructions.kept
        images, identities = reconstructions.images[kept], reconstructions.identities[kept]
        restarts = reconstructions.restarts[kept]
        rows = Rows(identities.to(access.device), restarts.to(access.device), context.key)

        def confidence(batch: slice) -> Tensor:
            shown, view = images[batch].to(access.device), RandomView(self.config.view)
            return robust_confidence(access.target, shown, rows[batch], views=self.config.views, view=view).cpu()

        return {
            "images": images,
            "identities": identities,
            "scores": torch.cat(access.batches.run(confidence, len(rows))),
            "queries": access.target.queries,
            "latent_steps": reconstructions.latent_steps,
            "attacked": len(standing),
        }

    def _joined(self, done: State) -> Reconstructions:
        images, identities, scores = (torch.cat([results[name] for results in done.values()]) for name in JOINED)
        restarts = torch.cat([torch.full((len(results["scores"]),), int(number)) for number, results in done.items()])
        attacked = [results["attacked"] for results in done.values()]
        labels = [attack.config.label for attack in self.attacks]
        return Reconstructions(
            images=images,
            latents=torch.zeros(len(images), 0),  # they belong to different priors
            identities=identities,
            restarts=restarts,
            scores=scores,
            kept=best_of_each(scores, identities, keep=self.config.keep),
            queries=sum(results["queries"] for results in done.values()),
            latent_steps=sum(results["latent_steps"] for results in done.values()),
            facts={"attacked": dict(zip(labels, attacked, strict=True))},
        )

    def protocol(self) -> dict[str, Any]:
        """Sums up the protocols of the attacks, which it holds as well."""
        protocols = [attack.protocol() for attack in self.attacks]
        return {
            "attack": "battery",
            "access": ", ".join(dict.fromkeys(protocol["access"] for protocol in protocols)),
            "steps": sum(protocol["steps"] for protocol in protocols),
            "restarts": max(protocol["restarts"] for protocol in protocols),
            "made": sum(protocol["made"] for protocol in protocols),
            "kept": self.config.keep,
            "selection": f"best {self.config.keep} by target confidence over {self.config.views} views",
            "falls_at": self.config.falls_at,
            "attacks": protocols,
        }
