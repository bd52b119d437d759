"""DP-SGD: clip what each image may contribute to a step, add noise, and account for the privacy that is spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from workloads.core.checkpoints import State
from workloads.core.errors import ConfigError
from workloads.defenses.base import DEFENSES, Defense, DefenseConfig, Evidence
from workloads.models.base import Classifier

LARGEST_GROUPS = 32


class DpSgdConfig(DefenseConfig):
    """How much noise to add, and to what."""

    kind: Literal["dp_sgd"] = "dp_sgd"
    noise_multiplier: PositiveFloat = 1.0
    """Standard deviation of the noise in units of `clip`. The 0.01 of the attack literature gives no guarantee at
    all."""
    clip: PositiveFloat = 1.0
    """Largest norm of one image's gradient."""
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    """Probability, in (epsilon, delta)-differential privacy, that the bound epsilon does not hold."""

    def check_combination(self, others: Sequence[DefenseConfig]) -> None:
        """Refuse a defense that ties images of a batch together."""
        coupling = [defense.kind for defense in others if DEFENSES.class_of(defense).couples_images]
        if coupling:
            raise ConfigError(
                f"dp_sgd bounds what one image contributes, and {coupling[0]} ties images of a batch together: "
                "use one of the two."
            )

    def change_model(self, model: Classifier) -> None:
        """Replace batch norms by group norms."""
        from opacus.validators import ModuleValidator

        for parent in list(model.modules()):
            for name, layer in list(parent.named_children()):
                if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                    groups = _groups(layer.num_features)
                    setattr(parent, name, nn.GroupNorm(groups, layer.num_features, eps=layer.eps))
        if problems := ModuleValidator.validate(model, strict=False):
            reason = str(problems[0]).partition("\n")[0].rstrip(". ")
            raise ConfigError(f"dp_sgd cannot take {model.config.kind} apart by images: {reason}. Use another model.")


@DEFENSES.register(DpSgdConfig)
class DpSgd(Defense):
    """Differentially private training through Opacus, with group norm in place of batch norm.

    Batches are Poisson samples of the images, as the accounting assumes, so their sizes vary. The privacy of one image
    is bounded, not that of a person with many images.

    Source: Abadi et al., "Deep Learning with Differential Privacy", CCS 2016; against model inversion in Wang et al.,
    AAAI 2021, whose batch norm and missing accounting are mended here.
    """

    config: DpSgdConfig

    def start(self, model: Classifier) -> None:
        """Wrap the model so that it gives the gradient of every image."""
        from opacus import GradSampleModule

        self._steps = 0
        self._wrapped = GradSampleModule(model, batch_first=True, loss_reduction="mean")

    @property
    def _sample_rate(self) -> float:
        """Probability that an image is part of a batch."""
        return min(self.facts.batch_size / self.facts.images, 1.0)

    def wrap_optimizer(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Clip every image's gradient and add noise to their sum."""
        from opacus.optimizers import DPOptimizer

        self._optimizer = DPOptimizer(
            optimizer,
            noise_multiplier=self.config.noise_multiplier,
            max_grad_norm=self.config.clip,
            expected_batch_size=self.facts.batch_size,
        )
        self._optimizer.attach_step_hook(self._count_step)
        return self._optimizer

    def _count_step(self, optimizer: torch.optim.Optimizer) -> None:
        self._steps += 1

    def begin_epoch(self, epoch: int) -> None:
        """Draw the noise of an epoch from a generator named after it."""
        seed = self.facts.generator("dp_sgd/noise", epoch).initial_seed()
        self._optimizer.generator = torch.Generator(device=self.facts.device).manual_seed(seed)

    def batches(self, *, generator: torch.Generator) -> Sequence[Tensor]:
        """Each image joins each batch by chance, which privacy accounting assumes."""
        rounds = max(round(1 / self._sample_rate), 1)
        is_sampled = torch.rand(rounds, self.facts.images, generator=generator) < self._sample_rate
        samples = [row.nonzero().flatten() for row in is_sampled]
        # A round without any image would release noise alone. Leaving it out spends no more privacy than is counted.
        return [indices for indices in samples if len(indices)]

    def state(self) -> State:
        """Steps taken, which the privacy spent follows from."""
        return {"steps": self._steps}

    def restore(self, state: State) -> None:
        """Go on counting steps."""
        self._steps = state["steps"]

    def finish(self) -> None:
        """Unwrap the model."""
        self._wrapped.remove_hooks()
        for parameter in self._wrapped.parameters():
            parameter.grad_sample = None

    def evidence(self) -> Evidence:
        """The privacy spent, as epsilon and delta."""
        facts = {
            "epsilon": epsilon(self.config, sample_rate=self._sample_rate, steps=self._steps),
            "delta": self.config.delta,
            "steps": self._steps,
            "sample_rate": self._sample_rate,
        }
        return Evidence(facts, {})


def epsilon(config: DpSgdConfig, *, sample_rate: float, steps: int) -> float:
    """The epsilon of (epsilon, delta)-differential privacy after this number of steps, by Renyi accounting."""
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(config.noise_multiplier, sample_rate, steps)]
    return float(accountant.get_epsilon(delta=config.delta))


def _groups(channels: int) -> int:
    """The largest number of groups, up to 32, that divides the channels."""
    return max(groups for groups in range(1, min(channels, LARGEST_GROUPS) + 1) if channels % groups == 0)
