"""PPDG-MI: an attack's best outputs teach its prior about one person, and the attack runs again on that prior."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.config import Fraction
from workloads.core.errors import ConfigError
from workloads.inversion.attack import (
    ATTACKS,
    Access,
    Attack,
    AttackConfig,
    Reconstructions,
    check_attacks_given_identities,
)
from workloads.inversion.rows import Rows
from workloads.inversion.selection import best_of_each, robust_confidence
from workloads.inversion.wrapped_attack import WrappedAttackConfig
from workloads.models.base import Classifier
from workloads.observation.oracles import LabelOracle
from workloads.observation.views import RandomView, ViewConfig
from workloads.priors.adversarial import AdversarialPrior
from workloads.priors.base import Prior

TUNING_IMAGES = 4000  # the few pseudo-private ones are repeated to their share
KEPT = ("images", "latents", "identities", "restarts", "scores", "kept")


class PpdgmiConfig(WrappedAttackConfig):
    """Settings of PPDG-MI. The reconstructions kept are those the wrapped attack keeps in its last round."""

    version: ClassVar[int] = 3
    kind: Literal["ppdgmi"] = "ppdgmi"
    rounds: PositiveInt = 2
    """Attacks on each identity, the first of them on the prior as it was fitted."""
    pseudo_private: PositiveInt = 5
    """Reconstructions of a round that the prior learns from: those of highest mean confidence over random views."""
    tune_steps: PositiveInt = 1000
    """Updates of the critic between two rounds."""
    tune_lr: PositiveFloat = 2e-4
    """Learning rate while the prior is tuned."""
    pseudo_private_share: Fraction = 0.5
    """Fraction of the tuning images that are pseudo-private; the others are public. The authors mix by the sizes of the
    two sets."""
    views: PositiveInt = 100
    """Random views by which the reconstructions of a round are ranked."""
    view: ViewConfig = ViewConfig(scale=(0.8, 1.0), brightness=0.2, contrast=0.2, flip=0.5, rotation=5.0)
    """The random views."""


@ATTACKS.register(PpdgmiConfig)
class Ppdgmi(Attack[LabelOracle]):
    """Pseudo-private data guided inversion: fine-tune a copy of the prior for each identity, then attack again.

    A prior fitted on other people gives images of the private ones little probability; tuning it on what the first
    attack found gives them more. Tuning goes on with the prior's own losses, as the authors do at 64 pixels; at 224
    they tune a StyleGAN by perceptual losses, which this does not.

    Source: Peng et al., "Pseudo-Private Data Guided Model Inversion Attacks", NeurIPS 2024.
    """

    oracle: ClassVar[type[LabelOracle]] = LabelOracle
    tunes_prior = True
    needs_public_images = True
    stages = ("attack", "tune the prior for each identity", "attack again")
    config: PpdgmiConfig

    def __init__(self, config: PpdgmiConfig) -> None:
        super().__init__(config)
        self.host = ATTACKS.build(config.host)

    @property
    def oracle_type(self) -> type[LabelOracle]:
        """What the host asks of the target model."""
        return self.host.oracle_type

    @classmethod
    def facts(cls, config: type[AttackConfig]) -> dict[str, str]:
        """The access is that of the host."""
        return super().facts(config) | {"access": "that of its host"}

    def check(self, *, prior: Prior | None, classes: int) -> None:
        """Refuse a prior that cannot be tuned here, and a host that picks whom it attacks."""
        super().check(prior=prior, classes=classes)
        if not isinstance(prior, AdversarialPrior) or not prior.scores_realism or not prior.config.fitted:
            raise ConfigError(
                f"{self.config.label} tunes its prior further, which takes a prior that is fitted here, against a "
                "critic, for example prior: {kind: wgan_gp}."
            )
        check_attacks_given_identities(self.host)
        self.host.check(prior=prior, classes=classes)

    def check_target(self, target_model: Classifier) -> None:
        """Check the host against the target model."""
        self.host.check_target(target_model)

    def run(self, access: Access[LabelOracle], identities: Tensor, *, context: JobContext) -> Reconstructions:
        """Attack all identities, then tune a prior for each and attack it again."""
        rounds = _Rounds(self.config, self.host, access, context)
        last = [rounds.attack_all(identities)]
        if self.config.rounds > 1:
            last = [rounds.attack_again(identity, last[0]) for identity in identities.tolist()]
        joined: dict[str, Any] = {name: torch.cat([results[name] for results in last]) for name in KEPT}
        return Reconstructions(**joined, queries=rounds.queries, latent_steps=rounds.latent_steps)

    def protocol(self) -> dict[str, Any]:
        """The host's protocol, with rounds and tuning."""
        config = self.config
        return self.host.protocol() | {
            "rounds": config.rounds,
            "pseudo_private": config.pseudo_private,
            "tune_steps": config.tune_steps,
            "pseudo_private_share": config.pseudo_private_share,
            "attack": config.kind,
            "host": config.host.kind,
        }


class _Rounds:
    """The attacks of all rounds, with the results of those that an earlier try of the job has finished."""

    def __init__(
        self, config: PpdgmiConfig, host: Attack[Any], access: Access[LabelOracle], context: JobContext
    ) -> None:
        self._config, self._host, self._access, self._context = config, host, access, context
        self._saved: State = context.resume() or {"done": {}, "queries": 0, "latent_steps": 0, "inner": None}
        self._fitted = access.required_prior.eval().requires_grad_(False)
        access.target.queries = self.queries

    @property
    def queries(self) -> int:
        """Images shown to the target model in all finished attacks."""
        return int(self._saved["queries"])

    @property
    def latent_steps(self) -> int:
        """Search steps of all finished attacks, summed over rows."""
        return int(self._saved["latent_steps"])

    def attack_all(self, identities: Tensor) -> State:
        """The first round: attack all identities with the prior as it was fitted."""
        return self._attack("first", identities, lambda: self._fitted)

    def attack_again(self, identity: int, first: State) -> State:
        """The other rounds of one identity, each with a prior tuned on the best of the round before."""
        rows = first["identities"] == identity
        results = {name: values[rows] for name, values in first.items()}
        prior: Callable[[], Prior] = lambda: self._fitted  # noqa: E731
        for number in range(1, self._config.rounds):
            name = f"{identity}.{number}"
            prior = functools.cache(functools.partial(self._tuned, prior, results, name))
            results = self._attack(name, torch.tensor([identity]), prior)
        return results

    def _attack(self, name: str, identities: Tensor, prior: Callable[[], Prior]) -> State:
        """The results of one attack, unless an earlier try of this job has finished it already."""
        saved = self._saved
        if name not in saved["done"]:
            inner, saved["inner"] = saved["inner"], None
            context = self._context.nested(name, saved=inner, wrap=lambda state: {**saved, "inner": state})
            reconstructions = self._host.run(replace(self._access, prior=prior()), identities, context=context)
            saved["done"][name] = {kept: getattr(reconstructions, kept) for kept in KEPT}
            saved["queries"] = self._access.target.queries
            saved["latent_steps"] += reconstructions.latent_steps
        results: State = saved["done"][name]
        return results

    def _tuned(self, prior: Callable[[], Prior], results: State, name: str) -> Prior:
        """A copy of the prior that has learned from the best results, beside public images."""
        config, access = self._config, self._access
        tuned = copy.deepcopy(prior())
        assert isinstance(tuned, AdversarialPrior)  # `Ppdgmi.check` refuses others
        assert access.public_images is not None
        best, share = self._best(results, f"{self._context.key}/{name}"), config.pseudo_private_share
        order = torch.randperm(len(access.public_images), generator=self._context.generator("public", name))
        public = access.public_images[order[: round(TUNING_IMAGES * (1 - share))]]
        repeated = best.repeat(max(round(TUNING_IMAGES * share / len(best)), 1), 1, 1, 1)
        tuned.tune(
            torch.cat((public, repeated)),
            steps=config.tune_steps,
            lr=config.tune_lr,
            target=access.target if tuned.target_access else None,
            context=self._context.nested(f"tuning/{name}", saved=None, wrap=lambda state: state),
        )
        return tuned

    def _best(self, results: State, key: str) -> Tensor:
        """The most convincing reconstructions of one identity. Shape: (N, C, H, W) uint8."""
        config, access = self._config, self._access
        rows = Rows(results["identities"].to(access.device), results["restarts"].to(access.device), key)
        images, view = results["images"].to(access.device), RandomView(config.view)
        scores = robust_confidence(access.target, images, rows, views=config.views, view=view).cpu()
        chosen = best_of_each(scores, results["identities"], keep=config.pseudo_private)
        best: Tensor = results["images"][chosen]
        return best.mul(255).round().to(torch.uint8)
