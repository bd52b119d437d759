"""The `target` section of a spec: a network trained here or elsewhere, a program, or a service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, PositiveFloat, Tag, model_validator

from orchestrator.errors import AtField
from workloads.black_boxes.meter import ServiceLimits
from workloads.black_boxes.program import ProgramConfig
from workloads.black_boxes.service import ServiceConfig
from workloads.core.config import Addition, FrozenConfig
from workloads.models.base import MODELS, ModelConfig
from workloads.recipes.optimization import TrainingConfig
from workloads.training.checkpoint_files import CheckpointConfig, CheckpointFile
from workloads.training.class_names import names_in


def _file_at(checkpoint: Any) -> Any:
    """A path as the file at it; what was read before is read again, since the file may have changed."""
    path = checkpoint.get("file") if isinstance(checkpoint, dict) else checkpoint
    return CheckpointFile.at(path) if isinstance(path, str) else checkpoint


def _program_at(program: Any) -> Any:
    """The same of a program."""
    path = program.get("file") if isinstance(program, dict) else program
    if isinstance(path, str) and not Path(path).is_file():
        raise ValueError(f"no program at {path}: give a TorchScript (.pt) or an exported (.pt2) one")
    return _file_at(program)


def _none_if_none(training: Any) -> Any:
    return None if training == "none" else training


class TargetConfig(FrozenConfig):
    """The classifier under attack: one that is trained here, or one that somebody else trained, in a file."""

    model: Annotated[ModelConfig, MODELS]
    """Architecture, and the weights that training starts from."""
    checkpoint: Annotated[
        CheckpointFile | None, BeforeValidator(_file_at, json_schema_input_type=str | None), Addition()
    ] = None
    """File of a trained classifier, relative to the spec: its weights, last layer included (.safetensors, .pt, .pth),
    as torchvision, timm, Lightning or this project write them. Nothing is trained then."""
    classes: Annotated[
        tuple[str, ...] | None,
        BeforeValidator(names_in, json_schema_input_type=list[str] | str | None),
        Addition(),
    ] = None
    """What the outputs of the checkpoint stand for, in their order: names of the private identities, or a text file
    with one a line. If omitted, they have the order of the identities."""
    mean: Annotated[tuple[float, ...] | None, Addition()] = None
    """Mean of each channel that the checkpoint's images in [0, 1] are normalised by. If omitted, that in the file, or
    the model's `input_mean`."""
    std: Annotated[tuple[PositiveFloat, ...] | None, Addition()] = None
    """Standard deviation of each channel likewise. If omitted, that in the file, or the model's `input_std`."""
    training: Annotated[
        TrainingConfig | None,
        BeforeValidator(_none_if_none, json_schema_input_type=TrainingConfig | Literal["none"] | None),
    ] = Field(default_factory=lambda fields: None if fields.get("checkpoint") else TrainingConfig())
    """Epochs, optimizer, learning rate and augmentation of its training; `none` with a checkpoint, or left out."""

    @model_validator(mode="after")
    def _trained_once(self) -> TargetConfig:
        if self.checkpoint is None:
            if self.training is None:
                raise AtField("none needs a checkpoint: name one, or leave it out", "training")
            stated = [name for name in ("classes", "mean", "std") if getattr(self, name) is not None]
            if stated:
                raise AtField("describes a checkpoint: name one, or leave it out", stated[0])
        elif self.training is not None:
            raise AtField("a checkpoint is not trained: set it to none, or leave it out", "training")
        return self

    @property
    def source(self) -> CheckpointConfig | None:
        """The trained classifier; None if it is trained here."""
        if self.checkpoint is None:
            return None
        return CheckpointConfig(checkpoint=self.checkpoint, classes=self.classes, mean=self.mean, std=self.std)

    @property
    def input_size(self) -> int | None:
        """Side in pixels of the images that it reads; None for that of the data set."""
        return self.model.input_size


class ProgramTarget(ProgramConfig):
    """A target model as a program in a file, which is asked and never opened."""

    program: Annotated[CheckpointFile, BeforeValidator(_program_at, json_schema_input_type=str)]
    """File of a TorchScript program (.pt, torch.jit.save) or an exported one (.pt2, torch.export.save, torch 2.8 or
    later), relative to the spec. It takes a batch of images and returns a tensor. A program that would do more than
    compute with tensors is refused."""

    @property
    def source(self) -> ProgramConfig:
        """What jobs know of it."""
        return ProgramConfig(**{name: getattr(self, name) for name in ProgramConfig.model_fields})


class ServiceTarget(ServiceConfig, ServiceLimits):
    """A target model as a Python function, such as one that asks a model behind a service."""

    @property
    def source(self) -> ServiceConfig:
        """What jobs know of it."""
        return ServiceConfig(**{name: getattr(self, name) for name in ServiceConfig.model_fields})

    @property
    def limits(self) -> ServiceLimits:
        """How it may be asked."""
        return ServiceLimits(**{name: getattr(self, name) for name in ServiceLimits.model_fields})


BlackBoxTarget = ProgramTarget | ServiceTarget


def source_field(target: TargetConfig | BlackBoxTarget) -> tuple[str, str]:
    """Path of the field that names a target model which is not trained here."""
    if isinstance(target, TargetConfig):
        return ("target", "checkpoint")
    return ("target", "program" if isinstance(target, ProgramTarget) else "service")


def answers_floors(target: TargetConfig | BlackBoxTarget) -> bool:
    """Whether floors of attacks can be measured: they are chosen by scores, and a budget is for attacks."""
    if isinstance(target, TargetConfig):
        return True
    return target.answers != "labels" and not (isinstance(target, ServiceTarget) and target.budget is not None)


def _sort_of(target: Any) -> str:
    """Which sort of target a section describes: by the field that only this sort has."""
    for field in ("program", "service"):
        if field in target if isinstance(target, dict) else hasattr(target, field):
            return f"<{field}>"
    return "<network>"


Target = Annotated[
    Annotated[TargetConfig, Tag("<network>")]
    | Annotated[ProgramTarget, Tag("<program>")]
    | Annotated[ServiceTarget, Tag("<service>")],
    Discriminator(_sort_of),
]
"""Any of them. Tags stand in angle brackets, unlike fields, so that messages can leave them out."""
