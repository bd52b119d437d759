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
from workloads.inversion.attack import ATTACKS, Access, Attack, Reconstructions, check_takes_names
from workloads.inversion.rows import Rows
from workloads.inversion.selection import best_of_each, robust_confidence
from workloads.inversion.wrapped_attack import HostedConfig
from workloads.observation.oracles import LabelOracle
from workloads.observation.views import RandomView, ViewConfig
from workloads.priors.adversarial import AdversarialPrior
from workloads.priors.base import Prior

IMAGES = 4000  # to tune a prior on; the few pseudo-private ones are repeated to their share
KEPT = ("images", "latents", "identities", "restarts", "scores", "kept")


class PpdgmiConfig(HostedConfig):
    """What the host keeps of each identity in the last round is what is kept."""

    version: ClassVar[int] = 2
    kind: Literal["ppdgmi"] = "ppdgmi"
    rounds: PositiveInt = 2
    """Attacks on each identity, the first of them on the prior as it was fitted."""
    pseudo_private: PositiveInt = 5
    """Reconstructions of a round that the prior learns from: the best by mean confidence over random views."""
    tune_steps: PositiveInt = 1000
    """Updates of the critic between two rounds."""
    tune_lr: PositiveFloat = 2e-4
    pseudo_private_share: Fraction = 0.5
    """Of the images that the prior is tuned on; the others are public. The authors mix by the sizes of the two sets."""
    views: PositiveInt = 100
    view: ViewConfig = ViewConfig(scale=(0.8, 1.0), brightness=0.2, contrast=0.2, flip=0.5, rotation=5.0)


@ATTACKS.register(PpdgmiConfig)
class Ppdgmi(Attack[LabelOracle]):
    """Pseudo-private data guided inversion: fine-tune a copy of the prior for each identity, then attack again.

    A prior fitted on other people puts little weight where the private ones are; tuning it on what the first attack
    found moves it there. Tuning goes on with the prior's own losses, as the authors do at 64 pixels; at 224 they tune a
    StyleGAN by perceptual losses, which this does not.

    Source: Peng et al., "Pseudo-Private Data Guided Model Inversion Attacks", NeurIPS 2024.
    """

    oracle: ClassVar[type[LabelOracle]] = LabelOracle
    tunes_prior = True
    needs_public_images = True
    stages = ("attack", "tune the prior for each identity", "attack again")
    config: PpdgmiConfig

    @classmethod
    def oracle_for(cls, config: PpdgmiConfig) -> type[LabelOracle]:
        return ATTACKS.class_of(config.host).oracle_for(config.host)

    @classmethod
    def facts(cls, config: Any) -> dict[str, str]:
        return super().facts(config) | {"access": "that of its host"}

    @classmethod
    def check(cls, config: Any, *, prior: Prior | None, classes: int) -> None:
        super().check(config, prior=prior, classes=classes)
        if not isinstance(prior, AdversarialPrior) or not prior.scores_realism or not prior.config.fitted:
            raise ConfigError(
                f"{config.label} tunes its prior further, which takes one that is fitted here, against a critic, as "
                "prior: {kind: wgan_gp}."
            )
        check_takes_names(config.host)
        ATTACKS.class_of(config.host).check(config.host, prior=prior, classes=classes)

    def run(self, access: Access[LabelOracle], identities: Tensor, *, context: JobContext) -> Reconstructions:
        host = ATTACKS.build(self.config.host)
        saved = context.resume() or {"done": {}, "queries": 0, "latent_steps": 0, "inner": None}
        access.target.queries = saved["queries"]

        def attacked(name: str, whom: Tensor, prior: Callable[[], Prior]) -> State:
            """What an attack finds, unless an earlier try of this job has it already."""
            if name not in saved["done"]:
                inner, saved["inner"] = saved["inner"], None
                part = context.nested(name, saved=inner, wrap=lambda state: {**saved, "inner": state})
                made = host.run(replace(access, prior=prior()), whom, context=part)
                saved["done"][name] = {own: getattr(made, own) for own in KEPT}
                saved["queries"] = access.target.queries
                saved["latent_steps"] += made.latent_steps
            return saved["done"][name]

        fitted = access.generator.eval().requires_grad_(False)
        found = [attacked("first", identities, lambda: fitted)]
        for identity in identities.tolist() if self.config.rounds > 1 else ():
            rows = found[0]["identities"] == identity
            rounds = [{name: own[rows] for name, own in found[0].items()}]
            prior: Callable[[], Prior] = lambda: fitted  # noqa: E731
            for number in range(1, self.config.rounds):
                name = f"{identity}.{number}"
                prior = functools.cache(functools.partial(self._tuned, prior, rounds[-1], access, context, name))
                rounds.append(attacked(name, torch.tensor([identity]), prior))
            found.append(rounds[-1])
        last = found[1:] or found
        joined: dict[str, Any] = {name: torch.cat([own[name] for own in last]) for name in KEPT}
        return Reconstructions(**joined, queries=saved["queries"], latent_steps=saved["latent_steps"])

    def _best(self, found: State, access: Access[LabelOracle], key: str) -> Tensor:
        """The most convincing reconstructions of one identity. Shape: (N, C, H, W) uint8."""
        rows = Rows(found["identities"], found["restarts"], key)
        images, view = found["images"].to(access.device), RandomView(self.config.view)
        scores = robust_confidence(access.target, images, rows, views=self.config.views, view=view).cpu()
        chosen = best_of_each(scores, rows.identities, keep=self.config.pseudo_private)
        return found["images"][chosen].mul(255).round().to(torch.uint8)

    def _tuned(
        self, prior: Callable[[], Prior], found: State, access: Access[LabelOracle], context: JobContext, name: str
    ) -> Prior:
        """A copy of the prior that has learned from the best of what was found, beside public images."""
        tuned: Any = copy.deepcopy(prior())
        assert access.public_images is not None
        pseudo, share = self._best(found, access, f"{context.key}/{name}"), self.config.pseudo_private_share
        order = torch.randperm(len(access.public_images), generator=context.generator("public", name))
        public = access.public_images[order[: round(IMAGES * (1 - share))]]
        repeated = pseudo.repeat(max(round(IMAGES * share / len(pseudo)), 1), 1, 1, 1)
        tuned.tune(
            torch.cat((public, repeated)),
            steps=self.config.tune_steps,
            lr=self.config.tune_lr,
            target=access.target if tuned.target_access else None,
            context=context.nested(f"tuning/{name}", saved=None, wrap=lambda state: state),
        )
        return tuned

    def protocol(self) -> dict[str, Any]:
        names = ("rounds", "pseudo_private", "tune_steps", "pseudo_private_share")
        host = ATTACKS.build(self.config.host).protocol()
        own = {name: getattr(self.config, name) for name in names}
        return host | own | {"attack": self.config.kind, "host": self.config.host.kind}
