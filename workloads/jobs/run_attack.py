"""Run one attack against one target model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from safetensors.torch import load_file, save_file

from workloads.black_boxes.box import BlackBox
from workloads.context import DataInput, JobContext
from workloads.inversion.attack import ATTACKS, Access, AttackConfig, Part, Reconstructions
from workloads.inversion.folded_networks import folded
from workloads.inversion.identity_choice import chosen, in_words
from workloads.inversion.memory_batches import MemoryBatches
from workloads.jobs.base import JOBS, Job, JobConfig
from workloads.jobs.fit_prior import load_prior
from workloads.jobs.target import TargetModel, images_sent, load_target
from workloads.models.base import Classifier
from workloads.observation.oracles import LabelOracle, WhiteBoxOracle
from workloads.priors.base import Prior
from workloads.training.classifiers import load_classifier

PROBES = 4  # images that folding is checked on


class RunAttackConfig(JobConfig):
    """Which attack to run, with all its settings."""

    kind: Literal["run_attack"] = "run_attack"
    attack: Annotated[AttackConfig, ATTACKS]
    """The attack, with its prior and what it knows of the target's defenses filled in."""
    public: DataInput
    """Public images, read only by attacks that ask for them."""


def prior_input(member: AttackConfig) -> str:
    """The input under which an attack that runs finds its prior."""
    return f"{member.label}.prior"


def surrogate_input(member: AttackConfig, number: int) -> str:
    """The input under which an attack that runs finds one of its surrogates, counted from 0."""
    return f"{member.label}.surrogate.{number}"


def part_input(part: AttackConfig) -> str:
    """The input under which a battery finds what one of its attacks rebuilt."""
    return f"{part.label}.attack"


@JOBS.register(RunAttackConfig)
class RunAttack(Job):
    """Rebuild images of the target model's identities, knowing the model, or its answers, and public data alone.

    Source: the threat model of Zhang et al., CVPR 2020, section 3.1.
    """

    inputs = ("target", "<attack>.prior", "<attack>.surrogate.<number>", "<attack>.attack")
    config: RunAttackConfig

    def run(self, context: JobContext) -> None:
        """Prepare the attack, attack, and write reconstructions and protocol."""
        config = self.config.attack
        target_model = load_target(
            context.inputs["target"], context, limits=self.config.limits, prepared_by=_prepared(context.inputs)
        )
        prepared = self._prepare(config, target_model, context)
        attack = ATTACKS.build(config)
        names = json.loads((context.inputs["target"] / "identities.json").read_text(encoding="utf-8"))
        identities = chosen(config.identities, names)
        parts = tuple(_part(part, context.inputs[part_input(part)]) for part in config.parts())
        access = replace(prepared.access, parts=parts)
        reconstructions = attack.run(access, torch.tensor(identities), context=context)
        _save(reconstructions, context.output / "reconstructions.safetensors")
        whom = {"identities": len(identities), "people": in_words(config.identities, len(names))}
        earlier_queries = prepared.queries + sum(part.queries for part in parts)
        counts = {
            **reconstructions.facts,
            "queries": reconstructions.queries + earlier_queries,
            "queries_before": earlier_queries,
            "latent_steps": reconstructions.latent_steps,
            **images_sent(target_model),
        }
        context.write_json("protocol.json", attack.protocol() | whom | counts)
        context.write_history()

    def _prepare(self, config: AttackConfig, target_model: TargetModel, context: JobContext) -> _Prepared:
        """Load the prior and the surrogates of the attack, and fold their layers."""
        attack = ATTACKS.build(config)
        if isinstance(target_model, Classifier):
            attack.check_target(target_model)
        prior, queries = None, 0
        if (name := prior_input(config)) in context.inputs:
            prior, queries = load_prior(context.inputs[name], device=context.device)
        folders = [context.inputs[surrogate_input(config, number)] for number in range(len(config.surrogates))]
        queries += sum(_queries_of(folder) for folder in folders)
        surrogates = [load_classifier(folder, device=context.device) for folder in folders]
        images = self._probes(prior, context)
        access = Access(
            target=_oracle(attack.oracle_type, target_model, images),
            device=context.device,
            channels=images.shape[1],
            image_size=images.shape[2],
            prior=prior if prior is None or attack.tunes_prior else _folded_prior(prior, context),
            surrogates=tuple(folded(surrogate, lambda network: network(images)) for surrogate in surrogates),
            public_images=context.load_images(self.config.public).images if attack.needs_public_images else None,
            batches=MemoryBatches(memory_gb=math.inf if context.device.type == "cuda" else context.memory_gb),
        )
        return _Prepared(access, queries)

    def _probes(self, prior: Prior | None, context: JobContext) -> torch.Tensor:
        """Images to check folding on. Shape: (PROBES, C, H, W)."""
        size = prior.image_size if prior else self.config.public.dataset.image_size
        shape = (PROBES, self.config.public.dataset.channels, size, size)
        return torch.rand(shape, generator=context.generator("probes")).to(context.device)


@dataclass(frozen=True)
class _Prepared:
    """What an attack is given, and how often the target model was asked to make it."""

    access: Access[LabelOracle]
    queries: int


def _queries_of(folder: Path) -> int:
    """Queries that training a surrogate took."""
    protocol: dict[str, int] = json.loads((folder / "protocol.json").read_text(encoding="utf-8"))
    return protocol["queries"]


def _part(part: AttackConfig, folder: Path) -> Part:
    """What an attack kept."""
    rebuilt = load_file(folder / "reconstructions.safetensors")
    protocol = json.loads((folder / "protocol.json").read_text(encoding="utf-8"))
    kept = {name: rebuilt[name][rebuilt["kept"]] for name in ("images", "identities", "restarts")}
    return Part(part.label, **kept, queries=protocol["queries"], latent_steps=protocol["latent_steps"])


def _save(reconstructions: Reconstructions, file: Path) -> None:
    names = ("images", "latents", "identities", "restarts", "scores", "kept", "parts")
    tensors = {name: getattr(reconstructions, name) for name in names}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}, file)


def _prepared(inputs: Mapping[str, Path]) -> list[Path]:
    """Artifacts of priors and surrogates, and of the attacks of a battery."""
    return [folder for name, folder in inputs.items() if name != "target"]


def _oracle(kind: type[LabelOracle], target_model: TargetModel, probes: torch.Tensor) -> LabelOracle:
    """The target model as the attack may ask it; `validate` refuses attacks that a black box cannot answer."""
    if isinstance(target_model, BlackBox):
        assert issubclass(target_model.access, kind), kind.access
        return kind(target_model)
    faster = folded(target_model, lambda model: model(probes))
    return kind(faster, original=target_model) if issubclass(kind, WhiteBoxOracle) else kind(faster)


def _folded_prior(prior: Prior, context: JobContext) -> Prior:
    latents = torch.randn(PROBES, prior.latent_size, generator=context.generator("probes")).to(context.device)
    identities = torch.arange(PROBES).remainder(prior.classes).to(context.device)

    def run(network: Prior) -> torch.Tensor:
        images = network.synthesize(network.map(latents), identities)
        return torch.cat((images.flatten(), network.realism(images).flatten())) if network.scores_realism else images

    return folded(prior, run)
