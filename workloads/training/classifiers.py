"""A trained classifier as a folder: its architecture, with what defenses changed in it, and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
from safetensors.torch import load_file, save_file

from workloads.context import JobContext
from workloads.core.config import FrozenConfig
from workloads.defenses.base import DEFENSES, DefenseConfig
from workloads.models.base import MODELS, Classifier, ModelConfig


class Architecture(FrozenConfig):
    """All that is needed to rebuild a classifier, except its weights."""

    model: Annotated[ModelConfig, MODELS]
    """The network."""
    classes: int
    """Number of identities."""
    channels: int
    """Channels of the images: 1 or 3."""
    image_size: int
    """Side in pixels of the images in the data set."""
    defenses: tuple[Annotated[DefenseConfig, DEFENSES], ...] = ()
    """Defenses that it is trained with, in order; some of them change the network."""

    @property
    def input_size(self) -> int:
        """Side in pixels of the images that the network reads."""
        return self.model.input_size or self.image_size

    def build(self, *, seed: int = 0) -> Classifier:
        """The network with the changes of all defenses, before `draw_weights`.

        Libraries draw from torch's global generator while they build. Its state is saved and restored, and `seed`
        decides what they draw.

        Raises:
            ConfigError: if a part does not fit another.
        """
        shape = {"channels": self.channels, "image_size": self.input_size}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = MODELS.build(self.model, classes=self.classes, **shape)
            for defense in self.defenses:
                defense.change_model(model)
        return model


def fresh_classifier(architecture: Architecture, context: JobContext, purpose: str) -> Classifier:
    """A network with new weights, drawn from the job's generators for `purpose`."""
    model = architecture.build(seed=context.generator(purpose, "library").initial_seed())
    model.draw_weights(context.generator(purpose))
    return model


def save_classifier(folder: Path, model: Classifier, architecture: Architecture) -> None:
    """Write `model.json` and `model.safetensors`."""
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    (folder / "model.json").write_text(architecture.model_dump_json(indent=1), encoding="utf-8")


def load_classifier(folder: Path, *, device: torch.device) -> Classifier:
    """A classifier that `save_classifier` wrote: in eval mode, its weights frozen, on `device`."""
    architecture = Architecture.model_validate_json((folder / "model.json").read_text(encoding="utf-8"))
    model = architecture.build()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.to(device).eval().requires_grad_(False)
