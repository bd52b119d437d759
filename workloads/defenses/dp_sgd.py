"""DP-SGD: clip what each image may contribute to a step, add noise, and account for the privacy that is spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from workloads.core.checkpoints import State
from workloads.core.errors import ConfigError
from workloads.defenses.base import DEFENSES, Defense, DefenseConfig
from workloads.models.base import Classifier

LARGEST_GROUPS = 32


class DpSgdConfig(DefenseConfig):
    kind: Literal["dp_sgd"] = "dp_sgd"
    noise_multiplier: PositiveFloat = 1.0
    """Standard deviation of the noise in units of `clip`. The attack literature's 0.01 gives no guarantee at all."""
    clip: PositiveFloat = 1.0
    """Bound of the norm of one image's gradient."""
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    """The chance, in (epsilon, delta)-differential privacy, that the bound does not hold."""


@DEFENSES.register(DpSgdConfig)
class DpSgd(Defense):
    """Differentially private training through Opacus, with group norm where batch norm stood.

    Batches are Poisson samples of the images, as the accounting assumes, so their sizes vary. The privacy of one image
    is bounded, not that of a person with many.

    Source: Abadi et al., "Deep Learning with Differential Privacy", CCS 2016; against model inversion in Wang et al.,
    AAAI 2021, whose batch norm and missing accounting are mended here.
    """

    config: DpSgdConfig

    @classmethod
    def change_model(cls, config: DpSgdConfig, model: Classifier) -> None:
        from opacus.validators import ModuleValidator

        for parent in list(model.modules()):
            for name, layer in list(parent.named_children()):
                if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                    groups = _groups(layer.num_features)
                    setattr(parent, name, nn.GroupNorm(groups, layer.num_features, eps=layer.eps))
        if unfit := ModuleValidator.validate(model, strict=False):
            reason = str(unfit[0]).partition("\n")[0].rstrip(". ")
            raise ConfigError(f"dp_sgd cannot take {model.config.kind} apart by images: {reason}. Use another model.")

    @classmethod
    def check_beside(cls, config: DpSgdConfig, others: Sequence[DefenseConfig]) -> None:
        coupled = [other.kind for other in others if DEFENSES.class_of(other).couples_images]
        if coupled:
            raise ConfigError(
                f"dp_sgd bounds what one image contributes, and {coupled[0]} ties images of a batch together: "
                "use one of the two."
            )

    def start(self, model: Classifier) -> None:
        from opacus import GradSampleModule

        self._steps = 0
        self._wrapped = GradSampleModule(model, batch_first=True, loss_reduction="mean")

    @property
    def _sample_rate(self) -> float:
        return min(self.facts.batch_size / self.facts.images, 1.0)

    def wrap_optimizer(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        from opacus.optimizers import DPOptimizer

        self._optimizer = DPOptimizer(
            optimizer,
            noise_multiplier=self.config.noise_multiplier,
            max_grad_norm=self.config.clip,
            expected_batch_size=self.facts.batch_size,
        )
        self._optimizer.attach_step_hook(self._count)
        return self._optimizer

    def _count(self, optimizer: Any) -> None:
        self._steps += 1

    def begin_epoch(self, epoch: int) -> None:
        seed = self.facts.generator("dp_sgd/noise", epoch).initial_seed()
        self._optimizer.generator = torch.Generator(device=self.facts.device).manual_seed(seed)

    def batches(self, *, generator: torch.Generator) -> Sequence[Tensor]:
        rounds = max(round(1 / self._sample_rate), 1)
        taken = torch.rand(rounds, self.facts.images, generator=generator) < self._sample_rate
        drawn = [row.nonzero().flatten() for row in taken]
        # A round without any image would release noise alone. Leaving it out spends no more privacy than is counted.
        return [indices for indices in drawn if len(indices)]

    def state(self) -> State:
        return {"steps": self._steps}

    def restore(self, state: State) -> None:
        self._steps = state["steps"]

    def finish(self) -> None:
        self._wrapped.remove_hooks()
        for parameter in self._wrapped.parameters():
            parameter.grad_sample = None

    def evidence(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {
            "epsilon": epsilon(self.config, sample_rate=self._sample_rate, steps=self._steps),
            "delta": self.config.delta,
            "steps": self._steps,
            "sample_rate": self._sample_rate,
        }, {}


def epsilon(config: DpSgdConfig, *, sample_rate: float, steps: int) -> float:
    """What the training spent: the epsilon of (epsilon, delta)-differential privacy by Renyi accounting."""
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(config.noise_multiplier, sample_rate, steps)]
    return float(accountant.get_epsilon(delta=config.delta))


def _groups(channels: int) -> int:
    """The most groups, up to 32, that divide the channels."""
    return max(groups for groups in range(1, min(channels, LARGEST_GROUPS) + 1) if channels % groups == 0)
