"""Measure what a step of an attack costs beside the bare passes of its networks, in turns in one process.

Usage: python -m benchmarks.attacks [--rounds N] [--only gmi kedmi lomma plgmi brepmi]

Networks and batch are those of the authors: 64 pixels, VGG16 with 1000 classes, 60 identities; their weights are
random, which does not change the cost. `limit` runs the folded, frozen networks and nothing else. `published` runs them
as the authors' code does: norms not folded, a gradient for every weight. CPU seconds on one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from benchmarks.pipeline import cpu_seconds
from workloads.attacks.brepmi import BrepmiConfig
from workloads.attacks.gmi import GmiConfig
from workloads.attacks.kedmi import KedmiConfig
from workloads.attacks.lomma import Lomma, LommaConfig
from workloads.attacks.plgmi import PlgmiConfig
from workloads.core.numerics import cpu_model
from workloads.core.randomness import generator
from workloads.inversion.attack import ATTACKS, Access, AttackConfig
from workloads.inversion.folded_networks import folded
from workloads.inversion.row_search import RowSearch
from workloads.inversion.rows import Rows
from workloads.models.base import Classifier, ModelConfig
from workloads.models.torchvision import TorchvisionConfig
from workloads.models.vgg16_bn import Vgg16BnConfig
from workloads.observation.oracles import LabelOracle, WhiteBoxOracle
from workloads.priors.base import PRIORS, Prior, PriorConfig
from workloads.priors.ked_gan import KedGanConfig
from workloads.priors.plg_gan import PlgGanConfig
from workloads.priors.wgan_gp import WganGpConfig
from workloads.training.classifiers import Architecture

CLASSES, SIZE, ROWS = 1000, 64, 60


@dataclass(frozen=True)
class Case:
    """An attack with the networks that its authors use."""

    config: AttackConfig
    prior: PriorConfig
    surrogates: tuple[ModelConfig, ...] = ()
    views: int = 1
    """Passes of the target model per image and step."""
    scores_realism: bool = True
    """Whether the prior's critic is part of a step."""


CASES = {
    "gmi": Case(GmiConfig(), WganGpConfig()),
    "kedmi": Case(KedmiConfig(), KedGanConfig()),
    "lomma": Case(
        LommaConfig(),
        KedGanConfig(),
        tuple(TorchvisionConfig(name=f"efficientnet_b{size}") for size in range(3)),
    ),
    "plgmi": Case(PlgmiConfig(), PlgGanConfig(), views=2, scores_realism=False),
}


def classifier(config: ModelConfig) -> Classifier:
    """Build a frozen classifier with random weights."""
    model = Architecture(model=config, classes=CLASSES, channels=3, image_size=SIZE).build(seed=1)
    model.draw_weights(generator("benchmark"))
    return model.eval().requires_grad_(False)


def access_to(case: Case, *, fast: bool) -> Access[WhiteBoxOracle]:
    """Build the networks of a case: folded and frozen if `fast`, else as the authors use them."""
    prior: Prior = PRIORS.build(case.prior, channels=3, image_size=SIZE, classes=CLASSES)
    prior.draw_weights(generator("benchmark", "prior"))
    prior.eval().requires_grad_(False)
    target = classifier(Vgg16BnConfig())
    surrogates = [classifier(config) for config in case.surrogates]
    if fast:
        images, latents = torch.rand(2, 3, SIZE, SIZE), torch.randn(2, prior.latent_size)
        prior = folded(prior, lambda network: network.synthesize(latents, torch.arange(2)))
        target = folded(target, lambda network: network(images))
        surrogates = [folded(surrogate, lambda network: network(images)) for surrogate in surrogates]
    else:
        networks: tuple[nn.Module, ...] = (prior, target, *surrogates)
        for network in networks:
            network.requires_grad_(True)
    findings = {"public_features": torch.zeros(2048)}
    return Access(WhiteBoxOracle(target), torch.device("cpu"), 3, SIZE, prior, tuple(surrogates), findings=findings)


def passes(case: Case, access: Access[WhiteBoxOracle]) -> Callable[[], object]:
    """Make a function that runs one forward and backward pass of every network of the case."""
    prior, identities = access.required_prior, torch.arange(ROWS)
    latents = torch.randn(ROWS, prior.latent_size, generator=generator("benchmark", "latents")).requires_grad_(True)

    def run() -> None:
        images = prior.synthesize(latents, identities)
        outputs = [access.target.logits(images) for _ in range(case.views)]
        outputs += [network(images) for network in access.surrogates]
        total = sum((output.sum() for output in outputs), torch.zeros([]))
        if case.scores_realism:
            total = total + prior.realism(images).sum()
        total.backward()
        latents.grad = None

    return run


def row_search(config: AttackConfig) -> RowSearch[Any]:
    """Build the search of an attack, which for LOMMA is that of its host."""
    attack = ATTACKS.build(config)
    search = attack.host if isinstance(attack, Lomma) else attack
    assert isinstance(search, RowSearch)
    return search


def step_of(case: Case, access: Access[WhiteBoxOracle]) -> Callable[[], object]:
    """Make a function that runs one step of the attack itself."""
    attack = row_search(case.config)
    rows = Rows.of(torch.arange(ROWS), 1, key="benchmark")
    state = attack.begin(access, rows)
    return lambda: attack.advance(access, state, rows, 0)


def compare(case: Case, rounds: int) -> dict[str, float]:
    """Median CPU milliseconds per row and step, by who runs the networks."""
    fast = access_to(case, fast=True)
    turns = {
        "ours": step_of(case, fast),
        "limit": passes(case, replace(fast)),
        "published": passes(case, access_to(case, fast=False)),
    }
    times: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(rounds + 1):
        for name, run in turns.items():
            seconds = cpu_seconds(run)
            if number:  # the first round warms up
                times[name].append(seconds)
    return {name: 1000 * statistics.median(seconds) / ROWS for name, seconds in times.items()}


def label_queries(rounds: int) -> float:
    """Queries of BREP-MI per CPU second: 8 identities, 32 points and one move each."""
    white_box = access_to(CASES["gmi"], fast=True)
    target = LabelOracle(white_box.target.logits)
    attack = row_search(BrepmiConfig())
    rows = Rows.of(torch.arange(8), 1, key="benchmark")
    latents = rows.normal(100, "start").clamp(-1.5, 1.5)
    findings = {  # every row starts at a latent that the target model takes for its identity
        "identities": rows.identities,
        "labels": target.labels(white_box.required_prior.synthesize(latents)),
        "starts": latents[:, None],
        "found": torch.ones(8, 1, dtype=torch.bool),
    }
    access = Access(target, white_box.device, 3, SIZE, white_box.prior, findings=findings)
    state = attack.begin(access, rows)
    attack.advance(access, state, rows, 0)
    before = target.queries
    seconds = sum(cpu_seconds(lambda: attack.advance(access, state, rows, 0)) for _ in range(rounds))
    return (target.queries - before) / seconds


def main() -> None:
    """Run the measurements and print one line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=[*CASES, "brepmi"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    machine = {"cpu": cpu_model(), "torch": torch.__version__, "threads": 1}
    for name, case in CASES.items():
        if arguments.only and name not in arguments.only:
            continue
        cost = compare(case, arguments.rounds)
        ratios = {"of_limit": cost["ours"] / cost["limit"], "published_of_limit": cost["published"] / cost["limit"]}
        numbers = {f"{contestant}_ms_per_latent_step": round(value, 2) for contestant, value in cost.items()}
        numbers |= {ratio: round(value, 3) for ratio, value in ratios.items()}
        print(json.dumps({"attack": name, **numbers, **machine}))
    if not arguments.only or "brepmi" in arguments.only:
        queries = round(label_queries(arguments.rounds), 1)
        print(json.dumps({"attack": "brepmi", "queries_per_cpu_second": queries, **machine}))


if __name__ == "__main__":
    main()
