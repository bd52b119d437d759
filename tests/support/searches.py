"""Every kind of search that an attack makes, at settings that make it short, with small networks of the project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from workloads.attacks.brepmi import BrepmiConfig
from workloads.attacks.deepinversion import DeepinversionConfig
from workloads.attacks.erasing_aware import ErasingAwareConfig
from workloads.attacks.gmi import GmiConfig
from workloads.attacks.ifgmi import IfgmiConfig
from workloads.attacks.kedmi import KedmiConfig
from workloads.attacks.lokt import LoktConfig
from workloads.attacks.lomma import GmiHost, KedmiHost, LommaConfig
from workloads.attacks.mirror import MirrorConfig
from workloads.attacks.plgmi import PlgmiConfig
from workloads.attacks.ppa import PpaConfig
from workloads.attacks.rlbmi import RlbmiConfig
from workloads.attacks.vmi import VmiConfig
from workloads.core.randomness import generator
from workloads.defenses.random_erasing import RandomErasingConfig
from workloads.inversion.attack import ATTACKS, Access, Attack, AttackConfig
from workloads.inversion.early_stop import EarlyStopConfig
from workloads.models.base import Classifier
from workloads.models.small_cnn import SmallCnnConfig
from workloads.observation.oracles import LabelOracle, WhiteBoxOracle
from workloads.observation.views import ViewConfig
from workloads.priors.base import PRIORS, Prior, PriorConfig
from workloads.priors.ked_gan import KedGanConfig
from workloads.priors.plg_gan import PlgGanConfig
from workloads.priors.stylegan2.prior import StyleGan2Config
from workloads.priors.tacgan import TacganConfig
from workloads.priors.wgan_gp import WganGpConfig
from workloads.training.classifiers import Architecture

CLASSES, SIZE, LATENT = 4, 32, 6
CRITIC = WganGpConfig(width=2, latent_size=LATENT)
KED = KedGanConfig(width=2, latent_size=LATENT)
STYLES = StyleGan2Config(latent_size=LATENT, style_size=6, mapping_layers=1, channel_base=64, channel_max=4)
POOL: dict[str, Any] = {"pool": 6, "restarts": 2, "keep": 1}
PICKED: dict[str, Any] = {"selection_views": 1, **POOL}
ONE: dict[str, Any] = {"restarts": 1, "keep": 1}
TURNED = ViewConfig(scale=(0.8, 1.0), brightness=0.2, contrast=0.2, flip=0.5, rotation=5.0)
ERASED = ErasingAwareConfig(host=GmiConfig(steps=3, **ONE))


@dataclass(frozen=True)
class Search:
    """An attack and the prior that it searches."""

    config: AttackConfig
    prior: PriorConfig | None

    @property
    def attack(self) -> Attack[Any]:
        return ATTACKS.build(self.config)


def erased(**settings: Any) -> Search:
    return Search(ERASED.model_copy(update={"erasing": RandomErasingConfig(**settings)}), CRITIC)


SEARCHES = {
    "gmi": Search(GmiConfig(steps=3, restarts=2), CRITIC),
    "gmi with early ends": Search(GmiConfig(steps=3, restarts=2, converged=EarlyStopConfig(window=2)), CRITIC),
    "kedmi": Search(KedmiConfig(steps=3, draws=1, keep=1), KED),
    "lomma on gmi": Search(LommaConfig(host=GmiHost(steps=3, **ONE), public_statistics=2), CRITIC),
    "lomma on kedmi": Search(LommaConfig(host=KedmiHost(steps=3, draws=1, keep=1), public_statistics=2), KED),
    "plgmi": Search(PlgmiConfig(steps=3, **ONE), PlgGanConfig(width=2, latent_size=LATENT)),
    "plgmi by poincare": Search(PlgmiConfig(steps=3, objective="poincare", **ONE), PlgGanConfig(width=2)),
    "lokt": Search(LoktConfig(steps=3, **ONE), TacganConfig(width=2, latent_size=LATENT)),
    "ppa": Search(PpaConfig(steps=3, milestones=(2, 3), discriminator_weight=0.5, **PICKED), STYLES),
    "ifgmi": Search(IfgmiConfig(stage_steps=(1, 2), **PICKED), STYLES),
    "ifgmi as its authors run it": Search(IfgmiConfig(stage_steps=(1, 2), fidelity="official", **PICKED), STYLES),
    "mirror": Search(MirrorConfig(steps=3, **POOL), STYLES),
    "mirror by genes": Search(MirrorConfig(search="genetic", steps=3, pool=6, population=4), STYLES),
    "vmi by gaussians": Search(VmiConfig(steps=3, samples=2, draws=1, keep=1, family="gaussian"), CRITIC),
    "vmi by flows": Search(VmiConfig(steps=3, samples=2, draws=1, keep=1, blocks=2, hidden=3), CRITIC),
    "deepinversion": Search(DeepinversionConfig(steps=3, warmup=2, images=2, keep=1), None),
    "brepmi": Search(BrepmiConfig(steps=3, points=3, draws=256), CRITIC),
    "rlbmi": Search(RlbmiConfig(steps=3, hidden=3, batch=1, buffer=4), CRITIC),
    "rlbmi as its authors run it": Search(
        RlbmiConfig(steps=3, hidden=3, batch=1, buffer=4, fidelity="official"), CRITIC
    ),
    "erasing_aware by mean": erased(),
    "erasing_aware by colours": erased(fill="official", boxes=2),
    "erasing_aware by noise": erased(fill="pixel_noise", location="uniform"),
    "erasing_aware by blur": erased(fill="blur"),
}
"""Searches by attack and variant."""
NESTED = {"battery", "ppdgmi"}
"""Attacks that run other ones, whose steps are theirs."""


def classifier(width: int) -> Classifier:
    """A frozen classifier, the same for the same width."""
    model = Architecture(
        model=SmallCnnConfig(width=width, stages=2), classes=CLASSES, channels=3, image_size=SIZE
    ).build(seed=1)
    model.draw_weights(generator("test", "classifier", width))
    return model.eval().requires_grad_(False)


def prior_of(config: PriorConfig) -> Prior:
    """A frozen prior, the same for the same settings."""
    prior = PRIORS.build(config, channels=3, image_size=SIZE, classes=CLASSES)
    prior.draw_weights(generator("test", "prior"))
    return prior.eval().requires_grad_(False)


def access_of(search: Search, device: torch.device) -> Access[LabelOracle]:
    """What the attack of a search is given, on a device; public images are the host's."""
    target = classifier(3).to(device)
    oracle = search.attack.oracle_type
    return Access(
        WhiteBoxOracle(target) if issubclass(oracle, WhiteBoxOracle) else oracle(target),
        device,
        image_size=SIZE,
        prior=prior_of(search.prior).to(device) if search.prior else None,
        surrogates=tuple(classifier(width).to(device) for width in range(1, 1 + len(search.config.surrogates))),
        public_images=torch.full((3, 3, SIZE, SIZE), 99, dtype=torch.uint8),
    )
