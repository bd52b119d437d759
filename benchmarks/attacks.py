"""Measure what a step of an attack costs beside the bare passes of its networks, in turns in one process.

Usage: python -m benchmarks.attacks [--rounds N] [--only gmi kedmi lomma plgmi brepmi]

Networks and batch are those of the authors: 64 pixels, VGG16 with 1000 classes, 60 identities; their weights are
random, which does not change the cost. `limit` runs the folded, frozen networks and nothing else. `published` runs them
as the authors' code does: norms not folded, a gradient for every weight. CPU seconds on one thread.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import Work, alternate, cpu_seconds, medians
from workloads.attacks.brepmi import BrepmiConfig
from workloads.attacks.gmi import GmiConfig
from workloads.attacks.kedmi import KedmiConfig
from workloads.attacks.lomma import Lomma, LommaConfig
from workloads.attacks.plgmi import PlgmiConfig
from workloads.core.checkpoints import State
from workloads.core.numerics import Precision, arithmetic, cpu_model
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
from workloads.priors.staged import StagedPrior
from workloads.priors.wgan_gp import WganGpConfig
from workloads.training.classifiers import Architecture

CPU, VGG = torch.device("cpu"), Vgg16BnConfig()


@dataclass(frozen=True)
class Setting:
    """What an attack is measured on; the defaults are the authors'."""

    rows: int = 60
    """Rows searched at once, each for an identity of its own."""
    classes: int = 1000
    """Identities of the target model; at least `rows`."""
    side: int = 64
    """Height and width of an image in pixels."""
    device: torch.device = CPU
    precision: Precision = "fp32"


@dataclass(frozen=True)
class Case:
    """An attack with the networks that its authors use."""

    config: AttackConfig
    prior: PriorConfig
    target: ModelConfig = VGG
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
        surrogates=tuple(TorchvisionConfig(name=f"efficientnet_b{size}") for size in range(3)),
    ),
    "plgmi": Case(PlgmiConfig(), PlgGanConfig(), views=2, scores_realism=False),
}


def classifier(config: ModelConfig, setting: Setting) -> Classifier:
    """Build a frozen classifier with random weights."""
    architecture = Architecture(model=config, classes=setting.classes, channels=3, image_size=setting.side)
    model = architecture.build(seed=1)
    model.draw_weights(generator("benchmark"))
    return model.eval().requires_grad_(False).to(setting.device)


def access_to(case: Case, setting: Setting, *, fast: bool) -> Access[WhiteBoxOracle]:
    """Build the networks of a case: folded and frozen if `fast`, else as the authors use them."""
    device, side = setting.device, setting.side
    prior: Prior = PRIORS.build(case.prior, channels=3, image_size=side, classes=setting.classes)
    prior.draw_weights(generator("benchmark", "prior"))
    prior.eval().requires_grad_(False).to(device)
    target = classifier(case.target, setting)
    surrogates = [classifier(config, setting) for config in case.surrogates]
    if fast:
        images, latents = torch.rand(2, 3, side, side, device=device), torch.randn(2, latent_size(prior), device=device)
        prior = folded(prior, lambda network: network.synthesize(latents, torch.arange(2, device=device)))
        target = folded(target, lambda network: network(images))
        surrogates = [folded(surrogate, lambda network: network(images)) for surrogate in surrogates]
    else:
        networks: tuple[nn.Module, ...] = (prior, target, *surrogates)
        for network in networks:
            network.requires_grad_(True)
    findings = findings_for(prior, target, setting)
    return Access(WhiteBoxOracle(target), device, 3, side, prior, tuple(surrogates), findings=findings)


def latent_size(prior: Prior) -> int:
    """Numbers in what a step moves: a latent, or the style of a prior that has styles."""
    return prior.style_size if isinstance(prior, StagedPrior) else prior.latent_size


def findings_for(prior: Prior, target: Classifier, setting: Setting) -> State:
    """What the attacks' `prepare` would find: features of public images, and a pool of starts with one of each row."""
    device = setting.device
    starts = torch.randn(setting.rows, latent_size(prior), generator=generator("benchmark", "starts"))
    return {
        "public_features": torch.zeros(in_features(target), device=device),
        "starts": starts.to(device),
        "candidates": (torch.arange(setting.classes) % setting.rows)[:, None].to(device),
        "confidences": torch.ones(setting.classes, 1, device=device),
    }


def in_features(target: Classifier) -> int:
    """How many features the head of a classifier reads."""
    assert isinstance(target.head, nn.Linear)
    return target.head.in_features


def passes(case: Case, access: Access[WhiteBoxOracle], setting: Setting) -> Work:
    """Make a function that runs one forward and backward pass of every network of the case."""
    prior, identities = access.required_prior, torch.arange(setting.rows, device=setting.device)
    draws = generator("benchmark", "latents")
    latents = torch.randn(setting.rows, latent_size(prior), generator=draws).to(setting.device).requires_grad_(True)

    def forward() -> Tensor:
        images = prior.synthesize(latents, identities)
        outputs = [access.target.logits(images) for _ in range(case.views)]
        outputs += [network(images) for network in access.surrogates]
        total = torch.stack([output.sum() for output in outputs]).sum()
        return total + prior.realism(images).sum() if case.scores_realism else total

    def run() -> None:
        with arithmetic(setting.precision, setting.device) as forward_pass:
            with forward_pass:
                total = forward()
            total.backward()
        latents.grad = None

    return run


def row_search(config: AttackConfig) -> RowSearch[Any]:
    """Build the search of an attack, which for LOMMA is that of its host."""
    attack = ATTACKS.build(config)
    search = attack.host if isinstance(attack, Lomma) else attack
    assert isinstance(search, RowSearch)
    return search


def step_of(case: Case, access: Access[WhiteBoxOracle], setting: Setting) -> Work:
    """Make a function that runs one step of the attack itself, each time the next one."""
    attack = row_search(in_precision(case.config, setting.precision))
    rows = Rows.of(torch.arange(setting.rows), 1, key="benchmark", device=setting.device)
    state, move, steps = attack.begin_rows(access, rows), attack.fastest_step(access), itertools.count()

    def run() -> None:
        nonlocal state
        state, _ = move(state, rows, attack.step_at(next(steps), device=setting.device))

    return run


def in_precision(config: AttackConfig, precision: Precision) -> AttackConfig:
    """The attack, or for LOMMA its host, computing in this precision."""
    if isinstance(config, LommaConfig):
        return config.model_copy(update={"host": config.host.model_copy(update={"precision": precision})})
    return config.model_copy(update={"precision": precision})


def compare(case: Case, rounds: int) -> dict[str, float]:
    """Median CPU milliseconds per row and step, by who runs the networks."""
    setting = Setting()
    fast = access_to(case, setting, fast=True)
    turns = {
        "ours": step_of(case, fast, setting),
        "limit": passes(case, fast, setting),
        "published": passes(case, access_to(case, setting, fast=False), setting),
    }
    times = alternate(turns, rounds, cpu_seconds)
    return {name: 1000 * seconds / setting.rows for name, seconds in medians(times).items()}


def label_queries(rounds: int) -> float:
    """Queries of BREP-MI per CPU second: 8 identities, 32 points and one move each."""
    white_box = access_to(CASES["gmi"], Setting(), fast=True)
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
    access = Access(target, white_box.device, 3, white_box.image_size, white_box.prior, findings=findings)
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
