"""Run one attack against one target model."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from safetensors.torch import save_file

from workloads.attacks.access import WhiteBoxAccess
from workloads.attacks.base import ATTACKS
from workloads.classifiers import load_classifier
from workloads.config import ComponentConfig
from workloads.context import JobContext
from workloads.jobs.base import JOBS, Job, JobConfig
from workloads.priors.base import PRIORS
from workloads.storage import load_network


class RunAttackConfig(JobConfig):
    kind: Literal["run_attack"] = "run_attack"
    attack: Annotated[ComponentConfig, ATTACKS]


@JOBS.register(RunAttackConfig)
class RunAttack(Job):
    """Rebuild images of the target model's identities, knowing the model and the prior and nothing else.

    Source: the threat model of Zhang et al., CVPR 2020, section 3.1.
    """

    inputs = ("target", "prior")
    config: RunAttackConfig

    def run(self, context: JobContext) -> None:
        attack = ATTACKS.build(self.config.attack)
        target_model = load_classifier(context.inputs["target"], device=context.device)
        prior = load_network(context.inputs["prior"], "prior", PRIORS, device=context.device)
        access = WhiteBoxAccess(target_model, prior, device=context.device)
        wanted = min(attack.config.identities or target_model.classes, target_model.classes)
        made = attack.run(access, torch.arange(wanted), context=context)
        tensors = {
            name: getattr(made, name).contiguous()
            for name in ("images", "latents", "identities", "restarts", "scores", "kept")
        }
        save_file(tensors, context.output / "reconstructions.safetensors")
        protocol = attack.protocol() | {"identities": wanted, "queries": made.queries}
        context.write_json("protocol.json", protocol)
        context.write_history()
