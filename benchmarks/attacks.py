"""What a step of an attack costs beside the bare passes of its networks, alternating in one process.

Usage: python -m benchmarks.attacks [--rounds N] [--only gmi kedmi lomma plgmi brepmi]

Networks and batch are those of the authors: 64 pixels, VGG16 with 1000 classes, 60 identities; their weights are
random, which changes no cost. `limit` runs the folded, frozen networks and nothing else. `published` runs them as the
authors' code does: norms apart, every weight with a gradient. CPU seconds on one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.erasing import cpu_model
from benchmarks.pipeline import cpu_seconds
from workloads.attacks.brepmi import BrepmiConfig
from workloads.attacks.gmi import GmiConfig
from workloads.attacks.kedmi import KedmiConfig
from workloads.attacks.lomma import LommaConfig
from workloads.attacks.plgmi import PlgmiConfig
from workloads.core.config import ComponentConfig
from workloads.core.randomness import generator
from workloads.inversion.attack import ATTACKS, Access
from workloads.inversion.folded_networks import folded
from workloads.inversion.rows import Rows
from workloads.models.torchvision import TorchvisionConfig
from workloads.models.vgg16_bn import Vgg16BnConfig
from workloads.observation.oracles import LabelOracle, WhiteBoxOracle
from workloads.priors.base import PRIORS
from workloads.priors.ked_gan import KedGanConfig
from workloads.priors.plg_gan import PlgGanConfig
from workloads.priors.wgan_gp import WganGpConfig
from workloads.training.classifiers import Architecture

CLASSES, SIZE, ROWS = 1000, 64, 60


@dataclass(frozen=True)
class Case:
    """An attack with the networks its authors give it."""

    config: Any
    prior: ComponentConfig
    surrogates: tuple[ComponentConfig, ...] = ()
    views: int = 1
    """How often the target model sees each image in a step."""
    judged: bool = True
    """Whether the prior's critic is part of a step."""


CASES = {
    "gmi": Case(GmiConfig(), WganGpConfig()),
    "kedmi": Case(KedmiConfig(), KedGanConfig()),
    "lomma": Case(
        LommaConfig(host=KedmiConfig(clip=1.0).model_dump()),
        KedGanConfig(),
        tuple(TorchvisionConfig(name=f"efficientnet_b{size}") for size in range(3)),
    ),
    "plgmi": Case(PlgmiConfig(), PlgGanConfig(), views=2, judged=False),
}


def classifier(config: ComponentConfig) -> nn.Module:
    model = Architecture(model=config, classes=CLASSES, channels=3, image_size=SIZE).build(seed=1)
    model.draw_weights(generator("benchmark"))
    return model.eval().requires_grad_(False)


def access_to(case: Case, *, fast: bool) -> Access[WhiteBoxOracle]:
    """The networks of a case: folded and frozen, or as the authors leave them."""
    prior: Any = PRIORS.build(case.prior, channels=3, image_size=SIZE, classes=CLASSES)
    prior.draw_weights(generator("benchmark", "prior"))
    prior.eval().requires_grad_(False)
    target: Any = classifier(Vgg16BnConfig())
    surrogates: list[Any] = [classifier(own) for own in case.surrogates]
    if fast:
        images, latents = torch.rand(2, 3, SIZE, SIZE), torch.randn(2, prior.latent_size)
        prior = folded(prior, lambda own: own.synthesize(latents, torch.arange(2)))
        target = folded(target, lambda own: own(images))
        surrogates = [folded(own, lambda net: net(images)) for own in surrogates]
    else:
        for network in (prior, target, *surrogates):
            network.requires_grad_(True)
    findings = {"public_features": torch.zeros(2048)}
    return Access(WhiteBoxOracle(target), torch.device("cpu"), 3, SIZE, prior, tuple(surrogates), findings=findings)


def passes(case: Case, access: Access[WhiteBoxOracle]) -> Callable[[], object]:
    """One forward and backward pass of every network of the case."""
    prior, identities = access.required_prior, torch.arange(ROWS)
    latents = torch.randn(ROWS, prior.latent_size, generator=generator("benchmark", "latents")).requires_grad_(True)

    def run() -> None:
        images = prior.synthesize(latents, identities)
        outputs = [access.target.logits(images) for _ in range(case.views)]
        outputs += [network(images) for network in access.surrogates]
        total = sum(own.sum() for own in outputs)
        if case.judged:
            total = total + prior.realism(images).sum()
        assert isinstance(total, Tensor)
        total.backward()
        latents.grad = None

    return run


def step_of(case: Case, access: Access[WhiteBoxOracle]) -> Callable[[], object]:
    """One step of the attack itself."""
    attack: Any = ATTACKS.build(case.config)
    rows = Rows.of(torch.arange(ROWS), 1, key="benchmark")
    state = attack.begin(access, rows)
    return lambda: attack.advance(access, state, rows, 0)


def compare(case: Case, rounds: int) -> dict[str, float]:
    """Median CPU milliseconds of one row and step."""
    fast = access_to(case, fast=True)
    turns = {
        "ours": step_of(case, fast),
        "limit": passes(case, replace(fast)),
        "published": passes(case, access_to(case, fast=False)),
    }
    times: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(rounds + 1):
        for name, run in turns.items():
            taken = cpu_seconds(run)
            if number:  # the first round warms up
                times[name].append(taken)
    return {name: 1000 * statistics.median(own) / ROWS for name, own in times.items()}


def label_queries(rounds: int) -> float:
    """Queries of BREP-MI for each CPU second: 8 identities, 32 points and one move each."""
    full = access_to(CASES["gmi"], fast=True)
    target = LabelOracle(full.target.target_model)  # type: ignore[arg-type]
    attack: Any = ATTACKS.build(BrepmiConfig())
    rows = Rows.of(torch.arange(8), 1, key="benchmark")
    latents = rows.normal(100, "start").clamp(-1.5, 1.5)
    findings = {  # every row starts where it is named as wanted
        "identities": rows.identities,
        "labels": target.labels(full.required_prior.synthesize(latents)),
        "starts": latents[:, None],
        "found": torch.ones(8, 1, dtype=torch.bool),
    }
    access = Access(target, full.device, 3, SIZE, full.prior, findings=findings)
    state = attack.begin(access, rows)
    attack.advance(access, state, rows, 0)
    before = target.queries
    seconds = sum(cpu_seconds(lambda: attack.advance(access, state, rows, 0)) for _ in range(rounds))
    return (target.queries - before) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=[*CASES, "brepmi"])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    machine = {"cpu": cpu_model(), "torch": torch.__version__, "threads": 1}
    for name, case in CASES.items():
        if asked.only and name not in asked.only:
            continue
        found = compare(case, asked.rounds)
        ratios = {"of_limit": found["ours"] / found["limit"], "published_of_limit": found["published"] / found["limit"]}
        cost = {f"{own}_ms_per_latent_step": round(value, 2) for own, value in found.items()}
        print(
            json.dumps({"attack": name, **cost, **{own: round(value, 3) for own, value in ratios.items()}, **machine})
        )
    if not asked.only or "brepmi" in asked.only:
        print(
            json.dumps({"attack": "brepmi", "queries_per_cpu_second": round(label_queries(asked.rounds), 1), **machine})
        )


if __name__ == "__main__":
    main()
