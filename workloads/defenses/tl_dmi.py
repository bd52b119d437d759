"""TL-DMI: early layers come from public data and stay frozen, so they cannot encode private images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from workloads.core.errors import ConfigError
from workloads.defenses.base import DEFENSES, Defense, DefenseConfig, Evidence
from workloads.models.base import Classifier
from workloads.recipes.optimization import TrainingConfig

NORM_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class TlDmiConfig(DefenseConfig):
    """How to train the public network, and how much of it to freeze."""

    kind: Literal["tl_dmi"] = "tl_dmi"
    through: str | None = None
    """Name of the last frozen stage; None freezes the first half of the stages."""
    pretraining: TrainingConfig = TrainingConfig()
    """How the network is trained on the public identities, once for all trials that start from it."""
    fidelity: Literal["sound", "official"] = "sound"
    """`official`: batch norms in frozen stages still follow the private batches, as published. `sound`: they are
    frozen too."""

    @property
    def starts_from(self) -> TrainingConfig:
        """How the classifier on public data is trained."""
        return self.pretraining

    def change_model(self, model: Classifier) -> None:
        """Refuse a `through` that is no stage of the model; nothing is changed."""
        frozen_stages(self, model)


@DEFENSES.register(TlDmiConfig)
class TlDmi(Defense):
    """Start from a network trained on public identities, freeze its early stages and fine-tune the rest.

    Source: Ho et al., "Model Inversion Robustness: Can Transfer Learning Help?", CVPR 2024.
    """

    config: TlDmiConfig

    def start(self, model: Classifier) -> None:
        """Copy the public classifier's weights, and freeze the first stages."""
        assert self.facts.pretrained is not None
        _copy_body(self.facts.pretrained, model)
        self._stages = frozen_stages(self.config, model)
        for stage in self._stages:
            stage.requires_grad_(False)

    def begin_epoch(self, epoch: int) -> None:
        """With sound fidelity, keep the statistics of frozen batch norms as they are."""
        if self.config.fidelity == "sound":
            for stage in self._stages:
                stage.eval()

    def evidence(self) -> Evidence:
        """Frozen stages and parameters."""
        frozen = sum(parameter.numel() for stage in self._stages for parameter in stage.parameters())
        return Evidence({"frozen_parameters": frozen, "frozen_stages": len(self._stages)}, {})


def frozen_stages(config: TlDmiConfig, model: Classifier) -> list[nn.Module]:
    """The stages of a model up to and including the one named in `config`.

    Raises:
        ConfigError: if the model has no stage of that name.
    """
    stages = model.stages()
    names = [name for name, _ in stages]
    if config.through is None:
        return [stage for _, stage in stages[: max(len(stages) // 2, 1)]]
    if config.through not in names:
        raise ConfigError(f"through: {model.config.kind} has no stage {config.through!r}. Stages: {', '.join(names)}.")
    return [stage for _, stage in stages[: names.index(config.through) + 1]]


def _copy_body(source: Mapping[str, Tensor], model: Classifier) -> None:
    """Copy all weights except the head's, whose classes are other people, into the model.

    A norm without running statistics, such as DP-SGD's group norm, takes scale and shift alone.
    """
    weights = {name: weight for name, weight in source.items() if not name.startswith("head.")}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    unmatched = [name for name in missing if not name.startswith("head.")]
    unmatched += [name for name in unexpected if not name.endswith(NORM_STATISTICS)]
    if unmatched:
        raise ConfigError(f"tl_dmi: the public network does not fit the defended one at {unmatched[0]}.")
