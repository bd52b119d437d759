"""Which jobs there are of what is drawn several times: evaluation models, priors and surrogates."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import SpecError
from orchestrator.planning.graph import TrialPlan
from orchestrator.planning.plan import attack_seeds
from tests.support.toy import TOY, toy_sweep
from workloads.attacks.gmi import GmiConfig
from workloads.attacks.kedmi import KedmiConfig
from workloads.priors.ked_gan import KedGanConfig
from workloads.priors.wgan_gp import WganGpConfig


def planned(folder: Path, **changes: Any) -> TrialPlan:
    """The plan of the undefended trial of the toy sweep."""
    return toy_sweep(folder, folder / "runs", **changes).plans()[0]


def with_seeds(section: str, *seeds: int) -> dict[str, Any]:
    return {section: {**TOY[section], "seeds": list(seeds)}}


def test_each_judge_judges_the_same_reconstructions(tmp_path: Path) -> None:
    plan = planned(tmp_path, **with_seeds("evaluation", 0, 7))
    assert Counter(job.kind for job in plan.jobs) == {
        "train_classifier": 3,
        "evaluate_classifier": 3,
        "fit_prior": 1,
        "run_attack": 1,
        "evaluate_attack": 2,
    }
    draw = plan.keys.attacks["gmi"].first
    assert [plan.job(key).inputs["attack"] for key in draw.judged] == [draw.attack] * 2
    assert [plan.job(judge.model).config["seed"] for judge in plan.keys.judges] == [0, 7]


def test_each_prior_has_an_attack_of_its_own(tmp_path: Path) -> None:
    plan = planned(tmp_path, **with_seeds("prior", 0, 1, 2))
    draws = plan.keys.attacks["gmi"].draws
    priors = [draw.members["gmi"].prior or "" for draw in draws]
    assert [plan.job(key).config["seed"] for key in priors] == [0, 1, 2]
    assert len({draw.attack for draw in draws}) == 3
    assert [list(plan.job(draw.attack).inputs.values()).count(prior) for draw, prior in zip(draws, priors, strict=True)]


def test_one_seed_more_leaves_the_jobs_of_the_others_as_they_are(tmp_path: Path) -> None:
    keys = []
    for seeds in ((0,), (0, 1)):
        changes = {**with_seeds("prior", *seeds), **with_seeds("evaluation", *seeds)}
        keys.append({job.key for job in planned(tmp_path, **changes).jobs})
    assert keys[0] < keys[1]


def test_names_of_roles_tell_draws_apart_only_where_there_are_several(tmp_path: Path) -> None:
    one = planned(tmp_path).keys.named()
    assert set(one) == {"evaluation", "target", "natural", "judge", "prior/gmi", "attack/gmi", "judged/gmi"}
    plan = planned(tmp_path, **with_seeds("prior", 0, 4), **with_seeds("evaluation", 1, 2))
    named = plan.keys.named()
    assert {"evaluation 1", "judge 2", "prior/gmi 4", "attack/gmi 0", "judged/gmi 4 by 2"} < set(named)
    assert set(named.values()) == {job.key for job in plan.jobs}


def test_an_attack_takes_the_seeds_of_its_own_prior_before_those_of_the_specs() -> None:
    of_spec, of_attack = WganGpConfig(seeds=(0, 1)), KedGanConfig(seeds=(5, 6, 7))
    assert attack_seeds(GmiConfig(prior=WganGpConfig()), of_spec) == (0, 1)
    assert attack_seeds(KedmiConfig(prior=of_attack), of_spec) == (5, 6, 7)
    assert attack_seeds(GmiConfig(prior=WganGpConfig()), None) == (0,)


@pytest.mark.parametrize(
    ("section", "seeds", "said"),
    [
        ("evaluation", [1, 1], r"evaluation\.seeds: \[1, 1\] repeats one"),
        ("evaluation", [-1], r"evaluation\.seeds: \[-1\] has one below 0"),
        ("evaluation", [], r"evaluation\.seeds: "),
        ("prior", [2, 2], r"prior\.seeds: \[2, 2\] repeats one: each is fitted once"),
    ],
)
def test_seeds_that_cannot_be_are_refused(tmp_path: Path, section: str, seeds: list[int], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        planned(tmp_path, **with_seeds(section, *seeds))
