"""PPA against numbers recorded from its authors' code, and what is done otherwise on purpose.

Tolerances are those the recording asks for: 1e-9 on latents in float64; its losses and final scores are coarser.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import Tensor

from tests.support.golden_networks import IDENTITIES, TinyNetworks, assert_recorded, follow, golden_networks, trajectory
from tests.support.interruptions import Interrupted, context_at
from tests.support.staged_networks import TinyStaged, access_to, signed_access
from workloads.attacks.ppa import Ppa, PpaConfig
from workloads.core.errors import ConfigError
from workloads.inversion.attack import Reconstructions
from workloads.inversion.latent_pool import draw_pool
from workloads.inversion.memory_batches import MemoryBatches
from workloads.inversion.rows import Rows
from workloads.inversion.selection import best_of_each
from workloads.observation.losses import poincare
from workloads.observation.oracles import WhiteBoxOracle
from workloads.observation.views import ViewConfig
from workloads.priors.wgan_gp import WganGp, WganGpConfig

STILL = ViewConfig()
STEPS = 20
RUNS: dict[str, dict[str, Any]] = {
    "constant": {},
    "multistep_6_12": {"milestones": (6, 12), "gamma": 0.1},
    "clipped": {"clip_images": True},
}


# The objective


def test_the_poincare_distance_is_the_authors(case: dict[str, Tensor]) -> None:
    assert_recorded(poincare(case["logits"].double(), case["labels"]), case["poincare"])


def test_the_poincare_distance_of_few_classes_is_the_authors(case: dict[str, Tensor]) -> None:
    distances = poincare(case["logits_of_6"].double(), case["labels_of_6"])
    assert_recorded(distances, case["poincare_of_6"])


def test_the_gradient_of_the_poincare_distance_is_the_authors(case: dict[str, Tensor]) -> None:
    logits = case["logits"].double().requires_grad_(True)
    (gradient,) = torch.autograd.grad(poincare(logits, case["labels"]).sum(), logits)
    assert_recorded(gradient, case["poincare_gradient"])


# The search


def searched(case: dict[str, Tensor], networks: TinyNetworks, run: str) -> tuple[Tensor, Tensor]:
    """Latents before the first and after every step, (T + 1, B, S), and losses, (T, B)."""
    attack = Ppa(PpaConfig(steps=STEPS, view=STILL, batch_reference=6, **RUNS[run]))
    rows = Rows(case["targets"], torch.arange(6), key="")
    states, losses = follow(
        attack, signed_access(networks), {"latents": case["starts"][:, 0].double()}, rows, steps=STEPS
    )
    return trajectory(states, "latents"), losses


@pytest.mark.parametrize("run", RUNS)
def test_latents_follow_the_authors(case: dict[str, Tensor], networks: TinyNetworks, run: str) -> None:
    assert_recorded(searched(case, networks, run)[0], case[f"{run}.latents"])


@pytest.mark.parametrize("run", RUNS)
def test_the_mean_loss_is_the_authors(case: dict[str, Tensor], networks: TinyNetworks, run: str) -> None:
    assert_recorded(searched(case, networks, run)[1].mean(1), case[f"{run}.loss"])


# The pool


def pooled(
    case: dict[str, Tensor], networks: TinyNetworks, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> dict[str, Tensor]:
    """What is found in the recorded pool, of which every entry is a start."""
    monkeypatch.setattr("workloads.inversion.style_search.draw_pool", lambda *_, **__: case["pool_z"])
    config = PpaConfig(pool=40, restarts=40, keep=40, cutoff=2, **settings)
    findings: dict[str, Tensor] = Ppa(config).prepare(
        signed_access(networks), torch.arange(IDENTITIES), context=context_at(Path())
    )
    return findings


def test_the_pool_of_a_seed_is_the_one_the_authors_draw(case: dict[str, Tensor], networks: TinyNetworks) -> None:
    config = PpaConfig(pool=40, restarts=3, keep=3, pool_seed=int(case["pool_seed"]))
    drawn = draw_pool(config, TinyStaged(networks.style), context=context_at(Path()))
    assert torch.equal(drawn, case["pool_z"].float())


def test_official_confidences_of_the_pool_are_the_authors(
    case: dict[str, Tensor], networks: TinyNetworks, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = pooled(case, networks, monkeypatch, fidelity="official")
    expected = case["pool_confidences"].sort(0, descending=True).values.T
    assert_recorded(findings["confidences"], expected)


def test_official_starts_are_the_first_styles_of_the_authors_candidates(
    case: dict[str, Tensor], networks: TinyNetworks, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = pooled(case, networks, monkeypatch, fidelity="official")
    rows = Rows(case["initial_identities"], torch.arange(3).repeat(4), key="")
    started = Ppa(PpaConfig()).start(signed_access(networks, **findings), rows)["latents"]
    assert_recorded(started, case["initial_candidates"][:, 0])


def test_a_start_is_scored_by_its_own_image_and_the_mirror_image_of_it(
    case: dict[str, Tensor], networks: TinyNetworks, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = pooled(case, networks, monkeypatch)
    starts = findings["starts"][findings["candidates"]]  # (identities, 40, S)
    for identity in range(IDENTITIES):
        images = networks.style.synthesis(starts[identity][:, None].expand(-1, 4, -1))[1].clamp(-1, 1)
        either = [softmax(networks.target(shown).numpy(), axis=1)[:, identity] for shown in (images, images.flip(3))]
        np.testing.assert_allclose(findings["confidences"][identity].numpy(), np.mean(either, axis=0), atol=1e-12)


def test_a_pool_smaller_than_its_starts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a pool of 10 has no 16 different starts: raise pool or start fewer"):
        PpaConfig(pool=10, restarts=16, keep=1)


# The final selection


def final_scores(case: dict[str, Tensor], networks: TinyNetworks) -> tuple[Tensor, Tensor]:
    """Candidates and their scores, in the order of the recording: by identity."""
    identities, order = case["final_candidate_targets"].sort(stable=True)
    latents = case["final_candidates"][order, 0].double()
    attack = Ppa(PpaConfig(selection_view=STILL, selection_views=4))
    rows = Rows(identities, torch.arange(len(order)), key="")
    images = attack.render(signed_access(networks), latents, rows)
    return latents, attack.ranking.scores(signed_access(networks).target, images, rows)


def test_final_scores_are_the_authors(case: dict[str, Tensor], networks: TinyNetworks) -> None:
    _, scores = final_scores(case, networks)
    expected = case["final_scores_by_target_0_2_4"].double()
    torch.testing.assert_close(scores, expected, rtol=0.0, atol=1e-6)  # theirs were summed in float32


def test_the_candidates_kept_are_the_authors(case: dict[str, Tensor], networks: TinyNetworks) -> None:
    latents, scores = final_scores(case, networks)
    identities = case["final_candidate_targets"].sort(stable=True).values
    kept = best_of_each(scores, identities, keep=3)
    best_first = torch.argsort(identities[kept] - scores[kept])
    assert_recorded(latents[kept][best_first], case["final_selected"][:, 0])
    assert torch.equal(identities[kept], case["final_selected_targets"])


# The whole attack, in float32 as a job runs it.

SMALL: dict[str, Any] = {"pool": 20, "restarts": 3, "keep": 2, "steps": 10, "selection_views": 4}


def attacked(folder: Path, *, stop_at: int | None = None, **settings: Any) -> Reconstructions:
    attack = Ppa(PpaConfig(**SMALL | settings))
    context = context_at(folder, stop_at=stop_at)
    return attack.run(signed_access(golden_networks(torch.float32)), torch.arange(IDENTITIES), context=context)


def test_rows_do_not_depend_on_which_others_share_their_batch(tmp_path: Path) -> None:
    together, alone = attacked(tmp_path / "together"), attacked(tmp_path / "alone", chunk_rows=1)
    # 10 x 1.6e-6, the drift of the authors' own code in float32
    torch.testing.assert_close(alone.latents, together.latents, rtol=0.0, atol=2e-5)
    assert torch.equal(alone.kept, together.kept)


@pytest.mark.parametrize("stop_at", [10, 30])  # of 30 reported steps: 3 chunks of 10
def test_a_resumed_attack_ends_with_the_same_bits(tmp_path: Path, stop_at: int) -> None:
    undisturbed = attacked(tmp_path / "undisturbed", chunk_rows=6)
    with pytest.raises(Interrupted):
        attacked(tmp_path / "interrupted", chunk_rows=6, stop_at=stop_at)
    resumed = attacked(tmp_path / "interrupted", chunk_rows=6)
    assert torch.equal(resumed.images, undisturbed.images)
    assert torch.equal(resumed.scores, undisturbed.scores)
    assert resumed.queries == undisturbed.queries


def test_every_image_shown_to_the_target_is_counted(tmp_path: Path) -> None:
    # each of 20 entries and its mirror image, 18 rows x 10 steps, 4 views of 18 images
    assert attacked(tmp_path).queries == 2 * 20 + 18 * 10 + 18 * 4


def test_measuring_memory_counts_no_query(tmp_path: Path) -> None:
    limited = replace(signed_access(golden_networks(torch.float32)), batches=MemoryBatches(memory_gb=1.0))
    reconstructions = Ppa(PpaConfig(**SMALL)).run(limited, torch.arange(IDENTITIES), context=context_at(tmp_path))
    assert reconstructions.queries == 2 * 20 + 18 * 10 + 18 * 4


def test_no_weight_ever_receives_a_gradient(tmp_path: Path) -> None:
    networks = golden_networks(torch.float32)
    Ppa(PpaConfig(**SMALL)).run(signed_access(networks), torch.arange(IDENTITIES), context=context_at(tmp_path))
    assert all(weight.grad is None for weight in networks.parameters())


def test_only_some_identities_of_the_target_can_be_attacked(tmp_path: Path) -> None:
    wanted = torch.tensor([4, 1])
    of_some = Ppa(PpaConfig(**SMALL)).run(
        signed_access(golden_networks(torch.float32)), wanted, context=context_at(tmp_path / "some")
    )
    of_everyone = attacked(tmp_path / "all")
    torch.testing.assert_close(
        of_some.latents[3:], of_everyone.latents[of_everyone.identities == 1], rtol=0.0, atol=2e-5
    )


# Settings


def test_a_preset_fills_in_what_is_not_given() -> None:
    config = PpaConfig.model_validate_json('{"kind": "ppa", "preset": "midre", "restarts": 32}')
    settings = (config.restarts, config.keep, config.pool, config.pool_seed, config.steps, config.milestones, config.lr)
    assert settings == (32, 8, 2000, 42, 50, (30, 40), 0.005)


def test_the_preset_of_dogs_looks_at_smaller_crops() -> None:
    config = PpaConfig(preset="dogs")
    assert (config.view.scale, config.lr, config.steps) == ((0.75, 1.0), 0.01, 100)


def test_lists_inside_of_a_config_with_a_preset_survive_json() -> None:
    config = PpaConfig(preset="midre", prior=WganGpConfig(betas=(0.0, 0.9)), view=ViewConfig(scale=(0.8, 1.0)))
    assert PpaConfig.model_validate_json(json.dumps(config.model_dump(mode="json"))) == config


def test_the_crop_keeps_the_middle_of_an_image(networks: TinyNetworks) -> None:
    image = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    image[:, :, 2:6, 2:6] = 1.0
    assert torch.equal(Ppa(PpaConfig(centre_crop=0.5)).framed(image), torch.ones_like(image))


def test_a_realistic_image_costs_less_where_a_discriminator_counts(networks: TinyNetworks) -> None:
    prior = networks.prior()
    target = networks.target
    images = networks.generator(torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    losses = Ppa(PpaConfig(discriminator_weight=2.0)).prior_losses(access_to(WhiteBoxOracle(target), prior), images)
    expected = 2 * np.log1p(np.exp(-networks.critic(images).flatten().numpy()))
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-12)


def test_a_discriminator_refuses_cropped_images() -> None:
    with pytest.raises(ValueError, match="set discriminator_weight to 0 or centre_crop to 1"):
        PpaConfig(discriminator_weight=0.1, centre_crop=0.8)


def plain_prior(**changes: Any) -> WganGp:
    prior = WganGp(WganGpConfig(width=2), channels=3, image_size=32, classes=6)
    for name, value in changes.items():
        setattr(prior, name, value)
    return prior


def test_a_plain_prior_will_do() -> None:
    Ppa(PpaConfig()).check(prior=plain_prior(), classes=6)


def test_a_prior_whose_images_depend_on_the_identity_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"depend on the identity: take a prior without labels, such as wgan_gp\."):
        Ppa(PpaConfig()).check(prior=plain_prior(conditional=True), classes=6)


def test_official_fidelity_needs_a_prior_with_layers() -> None:
    with pytest.raises(ConfigError, match="leave fidelity at fixed, or take a staged prior"):
        Ppa(PpaConfig(fidelity="official")).check(prior=plain_prior(), classes=6)


def test_a_discriminator_needs_a_prior_that_judges(networks: TinyNetworks) -> None:
    config = PpaConfig(discriminator_weight=0.1)
    with pytest.raises(ConfigError, match="tiny_style does not judge images: set it to 0, or take another prior"):
        Ppa(config).check(prior=TinyStaged(networks.style), classes=6)


def test_the_protocol_says_what_the_numbers_depend_on() -> None:
    protocol = Ppa(PpaConfig(preset="midre", prior=WganGpConfig())).protocol()
    assert protocol["selection"] == "best 8 by mean confidence over random views"
    assert (protocol["pool"], protocol["truncation"], protocol["milestones"]) == (2000, 1.0, [30, 40])
