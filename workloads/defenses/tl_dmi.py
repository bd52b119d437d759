"""TL-DMI: early layers come from public data and stay as they are, so they cannot encode private images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from workloads.core.errors import ConfigError
from workloads.defenses.base import DEFENSES, Defense, DefenseConfig
from workloads.models.base import Classifier
from workloads.recipes.optimization import TrainingConfig

NORM_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class TlDmiConfig(DefenseConfig):
    kind: Literal["tl_dmi"] = "tl_dmi"
    through: str | None = None
    """Name of the last frozen stage; half of the stages where omitted."""
    pretraining: TrainingConfig = TrainingConfig()
    """How the network is trained on the public identities, once for all trials that begin with it."""
    fidelity: Literal["sound", "official"] = "sound"
    """`official`: the batch norms of frozen stages go on following private batches, as published. `sound`: frozen
    means frozen."""

    @property
    def starts_from(self) -> TrainingConfig:
        return self.pretraining


@DEFENSES.register(TlDmiConfig)
class TlDmi(Defense):
    """Start from a network trained on public identities, freeze its early stages and fine-tune the rest.

    Source: Ho et al., "Model Inversion Robustness: Can Transfer Learning Help?", CVPR 2024.
    """

    config: TlDmiConfig

    @classmethod
    def change_model(cls, config: TlDmiConfig, model: Classifier) -> None:
        _frozen(config, model)  # changes nothing, but refuses a stage that is not there

    def start(self, model: Classifier) -> None:
        assert self.facts.pretrained is not None
        _copy_body(self.facts.pretrained, model)
        self._stages = _frozen(self.config, model)
        for stage in self._stages:
            stage.requires_grad_(False)

    def begin_epoch(self, epoch: int) -> None:
        if self.config.fidelity == "sound":
            for stage in self._stages:
                stage.eval()

    def evidence(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        frozen = sum(parameter.numel() for stage in self._stages for parameter in stage.parameters())
        return {"frozen_parameters": frozen, "frozen_stages": len(self._stages)}, {}


def _frozen(config: TlDmiConfig, model: Classifier) -> list[nn.Module]:
    """The stages up to the named one."""
    stages = model.stages()
    names = [name for name, _ in stages]
    if config.through is None:
        return [stage for _, stage in stages[: max(len(stages) // 2, 1)]]
    if config.through not in names:
        raise ConfigError(f"through: {model.config.kind} has no stage {config.through!r}. Stages: {', '.join(names)}.")
    return [stage for _, stage in stages[: names.index(config.through) + 1]]


def _copy_body(source: Mapping[str, Tensor], model: Classifier) -> None:
    """Everything but the head, whose classes are other people; a norm without statistics takes scale and shift."""
    weights = {name: own for name, own in source.items() if not name.startswith("head.")}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    lost = [name for name in missing if not name.startswith("head.")]
    lost += [name for name in unexpected if not name.endswith(NORM_STATISTICS)]
    if lost:
        raise ConfigError(f"tl_dmi: the public network does not fit the defended one at {lost[0]}.")
