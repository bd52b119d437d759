"""What a LOMMA spec says and may say, and whole sweeps of it on both hosts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from orchestrator.executors.inline import InlineExecutor
from orchestrator.sweep import Sweep
from tests.support.toy import numbers, toy_sweep
from workloads.attacks.lomma import DistillationConfig, GmiHost, KedmiHost, Lomma, LommaConfig
from workloads.context import JobContext
from workloads.core.errors import ConfigError
from workloads.models.small_cnn import SmallCnnConfig
from workloads.observation.oracles import LabelOracle
from workloads.priors.base import Prior, PriorConfig
from workloads.priors.ked_gan import KedGanConfig
from workloads.priors.wgan_gp import WganGpConfig


def lomma(text: str = "{}") -> LommaConfig:
    """The settings that a spec gives as plain data."""
    return LommaConfig.model_validate_json(text)


def test_the_default_is_the_authors_whole_attack_on_kedmi() -> None:
    config, host = lomma(), KedmiHost()
    assert config.host == host
    assert (host.steps, host.draws, host.clip, host.identity_weight) == (2400, 5, 1.0, 100.0)
    assert (config.identity_loss, config.feature_weight, config.public_statistics) == ("logit", 1.0, 5000)


def test_gmi_as_host_has_the_budget_of_lomma() -> None:
    host = lomma('{"host": {"kind": "gmi"}}').host
    assert (host.steps, host.batch_reference, host.restarts) == (2400, 60, 5)


def test_three_efficientnets_are_distilled_from_scores_about_public_images() -> None:
    surrogates = lomma().surrogates
    assert [surrogate.model.label for surrogate in surrogates] == [f"efficientnet_b{size}" for size in range(3)]
    assert {(surrogate.answers, surrogate.generated_per_class) for surrogate in surrogates} == {("scores", None)}


def test_distillation_is_trained_as_the_authors_train_it() -> None:
    training = lomma().surrogates[0].training
    assert (training.optimizer, training.lr, training.momentum, training.weight_decay) == ("sgd", 0.01, 0.9, 1e-4)
    assert (training.epochs, training.batch_size, training.schedule) == (20, 64, "constant")


def test_a_spec_may_distil_other_models_another_way() -> None:
    config = lomma('{"distillation": {"models": [{"kind": "small_cnn"}], "training": {"epochs": 3}}}')
    assert [(surrogate.model, surrogate.training.epochs) for surrogate in config.surrogates] == [(SmallCnnConfig(), 3)]


def test_no_network_is_distilled_where_a_spec_takes_them_off() -> None:
    assert lomma('{"distillation": null}').surrogates == ()


def test_how_often_to_try_stands_in_the_host_alone() -> None:
    with pytest.raises(ValidationError, match="restarts\n  Extra inputs are not permitted"):
        lomma('{"restarts": 2}')


@pytest.mark.parametrize("name", ["identities", "keep", "prior", "needs_prior"])
def test_settings_of_the_host_are_settings_of_the_attack(name: str) -> None:
    host = KedmiHost(identities=2, restarts=3, draws=2, keep=4)
    assert getattr(LommaConfig(host=host), name) == getattr(host, name)


def test_the_host_searches_as_it_is_set() -> None:
    host = KedmiHost(restarts=3, draws=2, keep=4, steps=7, chunk_rows=8, precision="bf16")
    attack = Lomma(LommaConfig(host=host))
    assert attack.host.config == host.model_copy(update={"name": "lomma"})
    assert attack.protocol().items() >= {"steps": 7, "restarts": 3, "made": 6, "kept": 4, "clip": 1.0}.items()


def test_the_prior_of_the_spec_reaches_a_host_without_one() -> None:
    assert LommaConfig(host=GmiHost()).with_prior(WganGpConfig()).prior == WganGpConfig()


def test_the_prior_of_the_spec_does_not_replace_the_hosts_own() -> None:
    assert LommaConfig(host=KedmiHost()).with_prior(WganGpConfig()).prior == KedGanConfig()


def test_the_host_is_told_of_the_targets_defenses(monkeypatch: pytest.MonkeyPatch) -> None:
    warned = KedmiHost(steps=1)
    monkeypatch.setattr(KedmiHost, "against", lambda host, defenses: warned)
    config = LommaConfig().against(())
    assert isinstance(config, LommaConfig)
    assert config.host is warned


def test_the_protocol_names_the_host_and_what_was_changed_of_it() -> None:
    said = Lomma(LommaConfig(host=GmiHost(), distillation=DistillationConfig(models=(SmallCnnConfig(),)))).protocol()
    expected = {"attack": "lomma", "host": "gmi", "steps": 2400, "identity_loss": "logit", "surrogates": 1}
    assert {name: said[name] for name in expected} == expected


class Blind(Prior):
    """A prior that judges nothing."""

    def synthesize(self, latents: torch.Tensor, identities: torch.Tensor | None = None) -> torch.Tensor:
        return latents

    def fit(self, images: torch.Tensor, *, target: LabelOracle | None = None, context: JobContext) -> None: ...


def test_what_the_host_refuses_is_refused() -> None:
    prior = Blind(PriorConfig(kind="blind"), channels=3, image_size=8, classes=6)
    with pytest.raises(ConfigError, match="which blind as it is set does not judge: take ked_gan"):
        Lomma(LommaConfig()).check(prior=prior, classes=6)


# A sweep with both hosts.

TINY: dict[str, Any] = {
    "prior": {"kind": "ked_gan", "width": 2, "steps": 6, "batch_size": 8, "latent_size": 8},
    "distillation": {"models": [{"kind": "small_cnn", "width": 2, "stages": 2}] * 2, "training": {"epochs": 1}},
}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("lomma")
    kedmi = {"kind": "kedmi", "prior": TINY["prior"], "steps": 3, "draws": 2, "keep": 2}
    attacks = [
        kedmi,
        {"kind": "lomma", "host": kedmi, "distillation": TINY["distillation"]},
        {"kind": "lomma", "name": "lomma_gmi", "host": {"kind": "gmi", "steps": 3}, "distillation": None},
    ]
    search = {"baseline": False, "objectives": [{"metric": "lomma.attack_accuracy", "goal": "min"}]}
    sweep = toy_sweep(folder, folder / "runs", attacks=attacks, search=search)
    sweep.run(InlineExecutor(), spec_file=None)
    return sweep


@pytest.mark.parametrize("attack", ["kedmi", "lomma", "lomma_gmi"])
def test_a_sweep_ends_with_every_number(sweep: Sweep, attack: str) -> None:
    (metrics,) = numbers(sweep).values()
    assert {f"{attack}.attack_accuracy", f"{attack}.knn_distance"} <= set(metrics)


def test_attacks_share_the_prior_that_the_target_taught(sweep: Sweep) -> None:
    (plan,) = sweep.plans()
    priors = {label: attack.first.members[label].prior for label, attack in plan.keys.attacks.items()}
    assert priors["kedmi"] == priors["lomma"] != priors["lomma_gmi"]


def test_queries_before_the_attack_are_those_of_its_prior_and_surrogates(sweep: Sweep) -> None:
    (plan,) = sweep.plans()
    said = sweep.store.read_json(plan.keys.attacks["lomma"].first.attack, "protocol.json")
    assert said["queries_before"] == 3 * 40  # public images, once each for the prior and two surrogates
    assert said["queries"] == 3 * 40 + 40 + 2 * 3 + 2 * 2  # and for their features, identities x steps, final draws
