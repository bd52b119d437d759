"""IF-GMI against numbers recorded from its authors' code, and what is done otherwise on purpose.

The tolerance is the one the recording asks for: 1e-9 in float64.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from tests.support.golden_networks import IDENTITIES, TinyNetworks, assert_recorded, golden_networks, trajectory
from tests.support.interruptions import Interrupted, context_at
from tests.support.staged_networks import TinyStaged, signed_access
from workloads.attacks.ifgmi import Ifgmi, IfgmiConfig
from workloads.core.checkpoints import State
from workloads.core.errors import ConfigError
from workloads.inversion.attack import Reconstructions
from workloads.inversion.l1_ball import within_l1_ball
from workloads.inversion.rows import Rows
from workloads.observation.views import ViewConfig
from workloads.priors.wgan_gp import WganGp, WganGpConfig

Fidelity = Literal["fixed", "official"]
Official = tuple[str, list[State], Tensor]
"""Name of a run by the authors' settings, its states, and its losses."""

STAGES = (8, 5, 5)
STARTS, ENDS = (0, 8, 13), (8, 13, 18)
TIGHT: dict[str, Any] = {"style_radii": (0.05, 0.06, 0.07), "feature_radii": (1.0, 0.3, 0.5)}
RUNS: dict[str, dict[str, Any]] = {
    "tight": TIGHT,
    "loose": {"style_radii": (1000.0,) * 3, "feature_radii": (1000.0,) * 3},
    "tight_clipped": TIGHT | {"clip_images": True},
}


# The ball


@pytest.mark.parametrize("radius", [0.5, 5.0, 30.0])
def test_vectors_are_projected_as_by_the_authors(case: dict[str, Tensor], radius: float) -> None:
    projected = within_l1_ball(case["vectors"].double(), torch.full((6,), radius))
    assert_recorded(projected, case[f"projected.radius_{radius}"])


def test_feature_maps_are_projected_as_by_the_authors(case: dict[str, Tensor]) -> None:
    projected = within_l1_ball(case["feature_maps"].double(), torch.full((4,), 4.0))
    assert_recorded(projected, case["projected.feature_maps_radius_4"])


def test_no_vector_in_the_ball_is_nearer_than_the_projected_one() -> None:
    vector = np.array([0.9, -0.5, 0.3])
    bound = {"type": "ineq", "fun": lambda x: 1.0 - np.abs(x).sum()}
    nearest = minimize(lambda x: ((x - vector) ** 2).sum(), np.zeros(3), constraints=[bound], tol=1e-12).x
    projected = within_l1_ball(torch.from_numpy(vector)[None], torch.ones(1))[0]
    np.testing.assert_allclose(projected.numpy(), nearest, atol=1e-4)  # what the solver reaches


def test_a_ball_without_room_moves_nothing() -> None:
    assert not within_l1_ball(torch.randn(2, 3, 4, 4), torch.zeros(2)).any()


# The staged search


def searched(
    case: dict[str, Tensor], networks: TinyNetworks, run: str, fidelity: Fidelity = "official"
) -> tuple[list[State], Tensor]:
    """The state before the first and after every step, and all losses, (18, B)."""
    settings: dict[str, Any] = {"view": ViewConfig(), "selection_view": ViewConfig(), "selection_views": 1}
    config = IfgmiConfig(stage_steps=STAGES, batch_reference=6, fidelity=fidelity, **settings, **RUNS[run])
    candidates = torch.arange(6).expand(IDENTITIES, 6)
    access = signed_access(networks, starts=case["starts"][:, 0].double(), candidates=candidates)
    attack, rows = Ifgmi(config), Rows(case["targets"], torch.arange(6), key="")
    states, losses = [attack.begin(access, rows)], []
    for step in range(sum(STAGES)):
        state, loss = attack.advance(access, states[-1], rows, step)
        states.append(state)
        losses.append(loss)
    return states, torch.stack(losses)


@pytest.fixture(scope="module", params=RUNS)
def official(request: pytest.FixtureRequest, case: dict[str, Tensor], networks: TinyNetworks) -> Official:
    return (request.param, *searched(case, networks, request.param))


def test_styles_follow_the_authors_through_all_stages(case: dict[str, Tensor], official: Official) -> None:
    run, states, _ = official
    styles = trajectory(states[:-1], "latents")
    assert_recorded(styles, case[f"{run}.w_before_step"])


def test_styles_end_each_stage_where_the_authors_do(case: dict[str, Tensor], official: Official) -> None:
    run, states, _ = official
    styles = torch.stack([states[end]["variables"]["latents"] for end in ENDS])
    assert_recorded(styles, case[f"{run}.w_after_stage"])


def test_the_mean_loss_is_the_authors(case: dict[str, Tensor], official: Official) -> None:
    run, _, losses = official
    assert_recorded(losses.mean(1), case[f"{run}.loss"])


@pytest.mark.parametrize("stage", [1, 2])
def test_features_begin_a_stage_as_the_authors_do(case: dict[str, Tensor], official: Official, stage: int) -> None:
    run, states, _ = official
    begun = states[STARTS[stage] + 1]["kept"]["anchors"]["features"]
    assert_recorded(begun, case[f"{run}.features_before_step_stage{stage}"][0])


@pytest.mark.parametrize("stage", [1, 2])
def test_features_follow_the_authors(case: dict[str, Tensor], official: Official, stage: int) -> None:
    run, states, _ = official
    features = trajectory(states[STARTS[stage] + 1 : ENDS[stage]], "features")
    assert_recorded(features, case[f"{run}.features_before_step_stage{stage}"][1:])


@pytest.mark.parametrize("stage", [1, 2])
def test_features_end_a_stage_where_the_authors_do(case: dict[str, Tensor], official: Official, stage: int) -> None:
    run, states, _ = official
    features = states[ENDS[stage]]["variables"]["features"]
    assert_recorded(features, case[f"{run}.features_at_end_of_stage{stage}"])


def test_the_image_kept_is_that_of_the_authors_stages_which_the_target_likes_best(
    case: dict[str, Tensor], networks: TinyNetworks, official: Official
) -> None:
    run, states, _ = official
    stages = case[f"{run}.images"].clamp(-1, 1)  # (stage, row, C, H, W)
    confidences = networks.target(stages.flatten(0, 1)).softmax(1).unflatten(0, (3, 6))
    best = confidences[:, torch.arange(6), case["targets"]].argmax(0)
    expected = stages[best, torch.arange(6)] / 2 + 0.5
    assert_recorded(states[-1]["kept"]["images"], expected)


def test_the_target_does_not_always_like_the_same_stage(case: dict[str, Tensor], networks: TinyNetworks) -> None:
    stages = case["tight.images"].clamp(-1, 1)
    confidences = networks.target(stages.flatten(0, 1)).softmax(1).unflatten(0, (3, 6))
    assert len(confidences[:, torch.arange(6), case["targets"]].argmax(0).unique()) > 1


# What is mended


def shown(networks: TinyNetworks, state: State, *, first: int) -> Tensor:
    variables = state["variables"]
    styles = variables["latents"][:, None].expand(-1, 4, -1)
    image: Tensor = networks.style.synthesis(styles, variables.get("features"), variables.get("colours"), first=first)[
        1
    ]
    return image


def test_a_stage_goes_on_from_the_image_that_the_last_one_ended_with(
    case: dict[str, Tensor], networks: TinyNetworks
) -> None:
    states, _ = searched(case, networks, "loose", "fixed")
    for stage in (1, 2):
        ended, begun = states[STARTS[stage]], {"variables": states[STARTS[stage] + 1]["kept"]["anchors"]}
        before, after = shown(networks, ended, first=stage - 1), shown(networks, begun, first=stage)
        assert_recorded(after, before)


def test_the_authors_stages_begin_with_another_image(case: dict[str, Tensor], networks: TinyNetworks) -> None:
    states, _ = searched(case, networks, "loose", "official")
    begun = {"variables": states[STARTS[1] + 1]["kept"]["anchors"]}
    assert (shown(networks, begun, first=1) - shown(networks, states[STARTS[1]], first=0)).abs().max() > 0.1


def test_carried_colours_stay_as_they_were(case: dict[str, Tensor], networks: TinyNetworks) -> None:
    states, _ = searched(case, networks, "loose", "fixed")
    assert torch.equal(states[ENDS[2]]["variables"]["colours"], states[ENDS[2]]["kept"]["anchors"]["colours"])


def test_nothing_leaves_its_ball(case: dict[str, Tensor], networks: TinyNetworks) -> None:
    states, _ = searched(case, networks, "tight", "fixed")
    last = states[-1]
    for name, radius in (("latents", 0.07), ("features", 0.5)):
        moved = (last["variables"][name] - last["kept"]["anchors"][name]).flatten(1).abs().sum(1)
        assert (moved <= radius + 1e-12).all(), name


# The whole attack, in float32 as a job runs it.

SMALL: dict[str, Any] = {
    **{"pool": 20, "restarts": 2, "keep": 1, "stage_steps": (6, 4, 4)},
    **{"selection_views": 3, "style_radii": (0.5, 0.5, 0.5), "feature_radii": (0.5, 0.5, 0.5)},
}


def attacked(folder: Path, *, stop_at: int | None = None, **settings: Any) -> Reconstructions:
    attack = Ifgmi(IfgmiConfig(**SMALL | settings))
    context = context_at(folder, stop_at=stop_at)
    return attack.run(signed_access(golden_networks(torch.float32)), torch.arange(IDENTITIES), context=context)


@pytest.mark.parametrize("fidelity", ["fixed", "official"])
def test_rows_do_not_depend_on_which_others_share_their_batch(tmp_path: Path, fidelity: str) -> None:
    together = attacked(tmp_path / "together", fidelity=fidelity)
    alone = attacked(tmp_path / "alone", fidelity=fidelity, chunk_rows=1)
    # 10 x 5.6e-7, the drift of images of the authors' own code in float32
    torch.testing.assert_close(alone.images, together.images, rtol=0.0, atol=6e-6)


@pytest.mark.parametrize("stop_at", [14, 28])  # of 42 reported steps: 3 chunks of 14
@pytest.mark.parametrize("fidelity", ["fixed", "official"])
def test_a_resumed_attack_ends_with_the_same_bits(tmp_path: Path, stop_at: int, fidelity: str) -> None:
    undisturbed = attacked(tmp_path / "undisturbed", chunk_rows=4, fidelity=fidelity)
    with pytest.raises(Interrupted):
        attacked(tmp_path / "interrupted", chunk_rows=4, stop_at=stop_at, fidelity=fidelity)
    resumed = attacked(tmp_path / "interrupted", chunk_rows=4, fidelity=fidelity)
    assert torch.equal(resumed.images, undisturbed.images)
    assert torch.equal(resumed.scores, undisturbed.scores)
    assert resumed.queries == undisturbed.queries


def test_a_resumed_stage_ends_with_the_same_bits(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"stage_steps": (20, 10, 10)}  # progress is reported at step 25, inside of stage 1
    undisturbed = attacked(tmp_path / "undisturbed", **settings)
    with pytest.raises(Interrupted):
        attacked(tmp_path / "interrupted", stop_at=25, **settings)
    assert torch.equal(attacked(tmp_path / "interrupted", **settings).images, undisturbed.images)


def test_every_image_shown_to_the_target_is_counted(tmp_path: Path) -> None:
    # 20 entries and their mirror images, 12 rows x 14 steps, 3 views of 3 stages of 12 rows, 3 of what is kept
    assert attacked(tmp_path).queries == 2 * 20 + 12 * 14 + 3 * 3 * 12 + 3 * 12


def test_the_score_of_a_row_is_the_one_its_stage_was_chosen_by(case: dict[str, Tensor], networks: TinyNetworks) -> None:
    kept = searched(case, networks, "loose", "fixed")[0][-1]["kept"]
    attack = Ifgmi(IfgmiConfig(selection_view=ViewConfig(), selection_views=1))
    rows = Rows(case["targets"], torch.arange(6), key="")
    scores = attack.ranking.scores(signed_access(networks).target, kept["images"], rows)
    assert_recorded(scores, kept["scores"])


# Settings


def test_a_preset_fills_in_what_is_not_given() -> None:
    config = IfgmiConfig.model_validate_json('{"kind": "ifgmi", "preset": "facescrub", "lr": 0.02}')
    assert (config.stage_steps, config.steps, config.pool, config.lr) == ((50, *7 * (10,)), 120, 2000, 0.02)


def test_the_number_of_steps_is_that_of_the_stages() -> None:
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        IfgmiConfig(steps=100)


def test_a_stage_without_a_radius_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there are 3 stages, but radii for 2: name one for each"):
        IfgmiConfig(stage_steps=(1, 1, 1), feature_radii=(1.0, 1.0))


def test_a_prior_without_blocks_is_refused() -> None:
    prior = WganGp(WganGpConfig(width=2), channels=3, image_size=32, classes=6)
    with pytest.raises(ConfigError, match=r"wgan_gp has no blocks to begin at: take a staged prior, such as"):
        Ifgmi(IfgmiConfig()).check(prior=prior, classes=6)


def test_a_prior_with_too_few_blocks_is_refused(networks: TinyNetworks) -> None:
    with pytest.raises(ConfigError, match=r"has 5 stages, but tiny_style at 8 pixels has 4 blocks: leave out"):
        Ifgmi(IfgmiConfig()).check(prior=TinyStaged(networks.style), classes=6)


def test_a_prior_with_enough_blocks_is_accepted(networks: TinyNetworks) -> None:
    config = IfgmiConfig(stage_steps=(70, 25, 25, 25), fidelity="official")
    Ifgmi(config).check(prior=TinyStaged(networks.style), classes=6)
