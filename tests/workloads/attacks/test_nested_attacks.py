"""Attacks inside attacks: what they may be given, what is counted, and that one inside another inside a third runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

from tests.support.interruptions import context_at
from workloads.attacks.battery import Battery, BatteryConfig
from workloads.attacks.brepmi import BrepmiConfig
from workloads.attacks.erasing_aware import ErasingAwareConfig
from workloads.attacks.gmi import Gmi, GmiConfig
from workloads.attacks.kedmi import KedmiConfig
from workloads.attacks.ppdgmi import Ppdgmi, PpdgmiConfig
from workloads.core.errors import ConfigError
from workloads.core.randomness import generator
from workloads.inversion.attack import Access
from workloads.models.base import Classifier
from workloads.models.small_cnn import SmallCnnConfig
from workloads.observation.oracles import WhiteBoxOracle
from workloads.priors.adversarial import AdversarialPrior
from workloads.priors.base import PRIORS, Prior, PriorConfig
from workloads.priors.ked_gan import KedGanConfig
from workloads.priors.plg_gan import PlgGanConfig
from workloads.priors.stylegan2.prior import StyleGan2Config
from workloads.priors.tacgan import TacganConfig
from workloads.priors.wgan_gp import WganGpConfig
from workloads.training.classifiers import Architecture

Network = TypeVar("Network", Prior, Classifier)

CPU = torch.device("cpu")
CLASSES, PUBLIC = 3, 20
STYLE = StyleGan2Config(latent_size=4, style_size=6, mapping_layers=1, channel_base=64, channel_max=4)


def drawn(network: Network, purpose: str) -> Network:
    """The network, frozen, with weights that depend on the purpose alone."""
    network.draw_weights(generator("test", purpose))
    return network.eval().requires_grad_(False)


def prior_of(config: PriorConfig) -> Prior:
    return drawn(PRIORS.build(config, channels=1, image_size=32, classes=CLASSES), "prior")


def access_to(config: PriorConfig) -> Access[WhiteBoxOracle]:
    architecture = Architecture(model=SmallCnnConfig(width=2, stages=2), classes=CLASSES, channels=1, image_size=32)
    public = torch.randint(256, (PUBLIC, 1, 32, 32), dtype=torch.uint8, generator=generator("test", "public"))
    return Access(
        WhiteBoxOracle(drawn(architecture.build(), "target")), CPU, 1, 32, prior_of(config), public_images=public
    )


WGAN = WganGpConfig(width=2, latent_size=4, batch_size=4)
GMI = GmiConfig(restarts=2, steps=2, batch_reference=1)
PPDG = PpdgmiConfig(host=GMI, pseudo_private=1, tune_steps=2, views=2)


def test_a_host_may_use_a_prior_that_asks_what_the_host_may(tmp_path: Path) -> None:
    ked = prior_of(KedGanConfig(width=2, latent_size=4, batch_size=4))
    Ppdgmi(PpdgmiConfig(host=KedmiConfig())).check(prior=ked, classes=CLASSES)
    with pytest.raises(ConfigError, match=r"plg_gan asks the target model for more \(white box\) than ppdgmi may"):
        Ppdgmi(PpdgmiConfig(host=BrepmiConfig())).check(
            prior=prior_of(PlgGanConfig(width=2, latent_size=4, batch_size=4)),
            classes=CLASSES,
        )


def test_what_tuning_asks_is_added_to_what_was_asked_before(tmp_path: Path) -> None:
    """Two people, one Gaussian and one draw each: 2 x (2 steps + 1 image) at first, then for each of them 2 views of
    the image, the answers to all that the prior is tuned on, and 2 steps + 1 image again."""
    host = KedmiConfig(steps=2, draws=1, keep=1)
    config = PpdgmiConfig(host=host, pseudo_private=1, tune_steps=1, views=2)
    access = access_to(KedGanConfig(width=2, latent_size=4, batch_size=4))
    reconstructions = Ppdgmi(config).run(access, torch.tensor([0, 1]), context=context_at(tmp_path))
    tuned_on = PUBLIC + 2000  # half of 4000 are copies of the one image; of the public half there are 20 only
    assert reconstructions.queries == 2 * 3 + 2 * (2 + tuned_on + 3)


def test_tuning_goes_on_after_the_steps_of_the_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a schedule would begin anew: T-ACGAN would learn no classes, StyleGAN2 would forget its average."""
    prior, steps = prior_of(TacganConfig(width=2, latent_size=4, batch_size=4, steps=7)), list[int]()
    assert isinstance(prior, AdversarialPrior)
    monkeypatch.setattr(prior, "_update", lambda step, *_: steps.append(step))
    black, target = torch.zeros(4, 1, 32, 32, dtype=torch.uint8), access_to(WGAN).target
    prior.tune(black, steps=2, lr=0.1, target=target, context=context_at(tmp_path))
    assert steps == [7, 8]


def test_a_published_prior_is_not_tuned() -> None:
    published = PRIORS.build(STYLE.model_copy(update={"weights": "somewhere"}), channels=1, image_size=32, classes=1)
    with pytest.raises(ConfigError, match=r"takes a prior that is fitted here, against a critic, for example prior"):
        Ppdgmi(PPDG).check(prior=published, classes=CLASSES)


@pytest.mark.parametrize("kind", ["ppdgmi", "battery"])
def test_an_attack_that_picks_its_victims_is_not_told_whom_to_attack(kind: str) -> None:
    official = BrepmiConfig(fidelity="official")
    attack = {
        "ppdgmi": Ppdgmi(PpdgmiConfig(host=official)),
        "battery": Battery(BatteryConfig(attacks=(GMI, official))),
    }[kind]
    with pytest.raises(ConfigError, match="brepmi as its authors run it attacks those it hits first, but here another"):
        attack.check(prior=prior_of(WGAN), classes=CLASSES)


def test_a_battery_attacks_no_more_people_than_there_are() -> None:
    config = BatteryConfig(attacks=(GMI, PPDG), identities=4)
    with pytest.raises(ConfigError, match="battery attacks 4 classes, but the target model has 3"):
        Battery(config).check(prior=None, classes=CLASSES)


@pytest.mark.parametrize("wrapper", [PpdgmiConfig, ErasingAwareConfig])
def test_a_battery_cannot_be_wrapped(wrapper: Any) -> None:
    with pytest.raises(ValueError, match="battery runs several attacks, which none can wrap"):
        wrapper(host=BatteryConfig(attacks=(GMI, PPDG)))


def test_gmi_needs_a_prior_that_judges() -> None:
    mute = PRIORS.build(STYLE.model_copy(update={"weights": "x", "judge": False}), channels=1, image_size=32, classes=1)
    with pytest.raises(ConfigError, match="which stylegan2 as it is set does not judge: take wgan_gp"):
        Gmi(GMI).check(prior=mute, classes=CLASSES)


def test_drawn_latents_reach_a_style_prior_through_its_mapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """4 numbers are drawn where the synthesis takes 6; images are cut to what a target model is shown."""
    access = access_to(STYLE)
    shown: list[Tensor] = []
    ask = access.target.logits

    def watched(images: Tensor) -> Tensor:
        shown.append(images.detach())
        return ask(images)

    monkeypatch.setattr(access.target, "logits", watched)
    reconstructions = Gmi(GMI).run(access, torch.tensor([0]), context=context_at(tmp_path))
    assert reconstructions.latents.shape == (2, 4)
    assert all(float(images.min()) >= 0 and float(images.max()) <= 1 for images in shown)
