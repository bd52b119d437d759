"""Run one attack against one target model."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Annotated, Literal

import torch
from safetensors.torch import save_file

from workloads.context import DataInput, JobContext
from workloads.inversion.attack import ATTACKS, Access, AttackConfig
from workloads.inversion.folded_networks import folded
from workloads.inversion.memory_batches import MemoryBatches
from workloads.jobs.base import JOBS, Job, JobConfig
from workloads.jobs.fit_prior import load_prior
from workloads.models.base import Classifier
from workloads.observation.oracles import LabelOracle, WhiteBoxOracle
from workloads.priors.base import Prior
from workloads.training.classifiers import load_classifier

PROBES = 4  # images that folding is checked on


class RunAttackConfig(JobConfig):
    kind: Literal["run_attack"] = "run_attack"
    attack: Annotated[AttackConfig, ATTACKS]
    public: DataInput
    """What the attacker has besides; read only by attacks that ask for it."""


@JOBS.register(RunAttackConfig)
class RunAttack(Job):
    """Rebuild images of the target model's identities, knowing the model, or its answers, and public data alone.

    Source: the threat model of Zhang et al., CVPR 2020, section 3.1.
    """

    inputs = ("target", "<attack>.prior", "<attack>.surrogate.<number>")
    config: RunAttackConfig

    def run(self, context: JobContext) -> None:
        config = self.config.attack
        target_model = load_classifier(context.inputs["target"], device=context.device)
        given = [self._access(member, target_model, context) for member in config.members()]
        attack = ATTACKS.build(config)
        wanted = config.identities or target_model.classes
        access = replace(given[0][0], members=tuple(own for own, _ in given))
        made = attack.run(access, torch.arange(wanted), context=context)
        tensors = {
            name: getattr(made, name).contiguous()
            for name in ("images", "latents", "identities", "restarts", "scores", "kept")
        }
        save_file(tensors, context.output / "reconstructions.safetensors")
        before = sum(asked for _, asked in given)
        counts = {
            **made.facts,
            "queries": made.queries + before,
            "queries_before": before,
            "latent_steps": made.latent_steps,
        }
        context.write_json("protocol.json", attack.protocol() | {"identities": wanted} | counts)
        context.write_history()

    def _access(
        self, member: AttackConfig, target_model: Classifier, context: JobContext
    ) -> tuple[Access[LabelOracle], int]:
        """All that a member of the attack is given, and how often the target was asked to make it."""
        attack = ATTACKS.build(member)
        attack.check_target(target_model)
        prior, asked = None, 0
        if (role := f"{member.label}.prior") in context.inputs:
            prior, asked = load_prior(context.inputs[role], device=context.device)
        folders = [context.inputs[f"{member.label}.surrogate.{own}"] for own in range(len(member.surrogates))]
        for folder in folders:
            asked += json.loads((folder / "protocol.json").read_text(encoding="utf-8"))["queries"]
        surrogates = [load_classifier(folder, device=context.device) for folder in folders]
        images = self._probes(prior, target_model, context)
        access = Access(
            target=_oracle(attack.oracle_type, target_model, images),
            device=context.device,
            channels=target_model.mean.shape[0],
            image_size=images.shape[2],
            prior=prior if prior is None or attack.tunes_prior else _folded_prior(prior, context),
            surrogates=tuple(folded(own, lambda net: net(images)) for own in surrogates),
            public_images=context.load_images(self.config.public).images if attack.needs_public_images else None,
            batches=MemoryBatches(memory_gb=math.inf if context.device.type == "cuda" else context.memory_gb),
        )
        return access, asked

    def _probes(self, prior: Prior | None, target_model: Classifier, context: JobContext) -> torch.Tensor:
        """Images to check folding on. Shape: (PROBES, C, H, W)."""
        size = prior.image_size if prior else self.config.public.dataset.image_size
        shape = (PROBES, target_model.mean.shape[0], size, size)
        return torch.rand(shape, generator=context.generator("probes")).to(context.device)


def _oracle(kind: type[LabelOracle], target_model: Classifier, probes: torch.Tensor) -> LabelOracle:
    faster = folded(target_model, lambda model: model(probes))
    return kind(faster, original=target_model) if issubclass(kind, WhiteBoxOracle) else kind(faster)


def _folded_prior(prior: Prior, context: JobContext) -> Prior:
    latents = torch.randn(PROBES, prior.latent_size, generator=context.generator("probes")).to(context.device)
    identities = torch.arange(PROBES).remainder(prior.classes).to(context.device)

    def run(own: Prior) -> torch.Tensor:
        images = own.synthesize(own.map(latents), identities)
        return torch.cat((images.flatten(), own.realism(images).flatten())) if own.scores_realism else images

    return folded(prior, run)
