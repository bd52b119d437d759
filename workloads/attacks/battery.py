"""Several attacks on the same people, and for each person what the attacker would pick of all they rebuilt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor

from workloads.context import JobContext
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


class BatteryConfig(AttackConfig):
    """Settings of several attacks together."""

    prior: ClassVar[None] = None
    needs_prior: ClassVar[bool] = False

    version: ClassVar[int] = 3
    kind: Literal["battery"] = "battery"
    attacks: Annotated[tuple[Annotated[AttackConfig, ATTACKS], ...], Field(min_length=2)]
    """The attacks. One that stands in the spec by itself too, with the same settings, runs once for both."""
    identities: IdentityChoice = None
    """Who is attacked: a number for the first N identities, a list of names, or `{count: 20, draw: random}`; `all`,
    the default, for everybody. The attacks' own settings of it are ignored."""
    keep: PositiveInt = 1
    """Reconstructions that the attacker picks per identity, of all that the attacks kept."""
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
        if any(attack.parts() for attack in attacks):
            raise ValueError("a battery holds no battery: list its attacks")
        return attacks

    @property
    def candidates_per_identity(self) -> int:
        """Reconstructions that the attacks keep of each identity together."""
        return sum(attack.keep for attack in self.attacks)

    def members(self) -> tuple[AttackConfig, ...]:
        """The attacks of the list, on the people of the battery."""
        return tuple(attack.attacking(self.identities) for attack in self.attacks)

    def parts(self) -> tuple[AttackConfig, ...]:
        """All of its attacks: it rebuilds nothing itself."""
        return self.members()

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
    """The worst case over a list of attacks, each of which attacks everybody by itself.

    Two numbers come of it. The attacker's pick is, of each person, the reconstructions with the highest confidence of
    the target model over random views, of whichever attack: an attacker has no other judge. It is compared among
    reconstructions of one person alone, so what strangers reach of it could not change the pick. `attack_accuracy_any`
    counts who is recognised in any reconstruction that any attack kept: no attacker can tell which that is, but it is
    never below what one of the attacks reaches.

    Source: this project, after Croce and Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of
    Diverse Parameter-Free Attacks", ICML 2020.
    """

    oracle = LabelOracle
    config: BatteryConfig
    stages = ("attack with each", "pick")

    @classmethod
    def facts(cls, config: type[AttackConfig]) -> dict[str, str]:
        """The access is that of the attacks in the list."""
        return super().facts(config) | {"access": "that of its attacks"}

    def check(self, *, prior: Prior | None, classes: int) -> None:
        """Check the battery as such; its attacks are checked one by one, each with its own prior."""
        super().check(prior=prior, classes=classes)
        for attack in self.config.attacks:
            check_attacks_given_identities(ATTACKS.build(attack))

    def planned_queries(self, identities: int) -> int:
        """Every view of every reconstruction."""
        return identities * self.config.candidates_per_identity * self.config.views

    def run(self, access: Access[LabelOracle], identities: Tensor, *, context: JobContext) -> Reconstructions:
        """Pick from what the attacks rebuilt of these identities."""
        parts = access.parts
        images = torch.cat([part.images for part in parts])
        targets = torch.cat([part.identities for part in parts])
        restarts = torch.cat([part.restarts for part in parts])
        rows = Rows(targets.to(access.device), restarts.to(access.device), context.key)

        def confidence(batch: slice) -> Tensor:
            shown, view = images[batch].to(access.device), RandomView(self.config.view)
            return robust_confidence(access.target, shown, rows[batch], views=self.config.views, view=view).cpu()

        scores = torch.cat(access.batches.run(confidence, len(rows)))
        return Reconstructions(
            images=images,
            latents=torch.zeros(len(images), 0),  # they belong to different priors
            identities=targets,
            restarts=restarts,
            scores=scores,
            kept=best_of_each(scores, targets, keep=self.config.keep),
            queries=access.target.queries,
            latent_steps=sum(part.latent_steps for part in parts),
            parts=torch.cat([torch.full((len(part.images),), number) for number, part in enumerate(parts)]),
            facts={"rebuilt_by": [part.label for part in parts]},
        )

    def protocol(self) -> dict[str, Any]:
        """Sums up the protocols of the attacks, which it holds as well."""
        protocols = [ATTACKS.build(attack).protocol() for attack in self.config.attacks]
        return {
            "attack": "battery",
            "access": ", ".join(dict.fromkeys(protocol["access"] for protocol in protocols)),
            "steps": sum(protocol["steps"] for protocol in protocols),
            "restarts": max(protocol["restarts"] for protocol in protocols),
            "made": sum(protocol["made"] for protocol in protocols),
            "kept": self.config.keep,
            "selection": f"best {self.config.keep} by target confidence over {self.config.views} views",
            "attacks": protocols,
        }
