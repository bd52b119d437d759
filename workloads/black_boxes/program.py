"""A program in a file as a black box: TorchScript, or what torch.export writes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from pydantic import PositiveFloat
from torch import Tensor

from workloads.black_boxes.box import BlackBox, BlackBoxConfig
from workloads.black_boxes.program_files import EXPORTED, check_program
from workloads.core.errors import AnswerError, ConfigError, DataError
from workloads.core.weights import digest_of
from workloads.training.checkpoint_files import CheckpointFile


class ProgramConfig(BlackBoxConfig):
    """A target model as a program in a file, which is asked and never opened."""

    program: CheckpointFile
    """File of a TorchScript program (torch.jit.save) or an exported one (.pt2, torch.export.save, torch 2.8 or later),
    relative to the spec. It takes one batch of images and returns one tensor; programs that would do more than compute
    with tensors are refused."""
    mean: tuple[float, ...] | None = None
    """Mean of each channel, subtracted from images in [0, 1]; if omitted, the program takes them in [0, 1]."""
    std: tuple[PositiveFloat, ...] | None = None
    """Standard deviation of each channel, by which they are divided; if omitted, they are not."""


class Program(BlackBox):
    """A program that was checked and loaded.

    An exported program whose number of images is fixed is given as many, the last one repeated.
    """

    config: ProgramConfig

    def __init__(
        self, config: ProgramConfig, names: Sequence[str], *, channels: int, file: Path, device: torch.device
    ) -> None:
        """Load the program.

        Args:
            channels: those of the images.
            file: a copy of the file that the config names.

        Raises:
            ConfigError: if mean or standard deviation do not fit the images.
            DataError: if it cannot be loaded, or would do more than compute with tensors.
        """
        super().__init__(config, names)
        self._mean = _per_channel("mean", config.mean, channels, neutral=0.0, device=device)
        self._std = _per_channel("std", config.std, channels, neutral=1.0, device=device)
        if digest_of(file) != config.program.digest:
            raise DataError(f"{file} changed since this sweep was planned: start it again.")
        check_program(file)
        self._run, self._fixed = _exported(file, device) if file.suffix == EXPORTED else (_script(file, device), None)

    def ask(self, images: Tensor) -> Tensor:
        """What the program returns for normalised images."""
        normalized = (images - self._mean) / self._std
        if self._fixed is None:
            return self._answers(normalized)
        batches = normalized.split(self._fixed)
        answers = [self._answers(_filled(batch, self._fixed))[: len(batch)] for batch in batches]
        return torch.cat(answers)

    def _answers(self, normalized: Tensor) -> Tensor:
        try:
            return self._run(normalized)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError, ValueError) as error:
            shape = " x ".join(map(str, normalized.shape))
            raise AnswerError(
                f"{self.config.program.file} does not take images of {shape}: {_one_line(error)}. Check input_size and "
                "channels."
            ) from error


def _script(file: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch would have everybody export anew
            script: torch.jit.ScriptModule = torch.jit.load(file, map_location=device)
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{file} cannot be loaded: {_one_line(error)}.") from error
    return script.eval()


def _exported(file: Path, device: torch.device) -> tuple[Callable[[Tensor], Tensor], int | None]:
    """An exported program, and the number of images that it takes; None if any."""
    from torch.export import load, passes

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = load(file)
        if device.type != "cpu":
            program = passes.move_to_device_pass(program, device)
    except (RuntimeError, ValueError, AssertionError, KeyError, TypeError) as error:
        raise DataError(f"{file} cannot be loaded: {_one_line(error)}. Export it again with this torch.") from error
    inputs = program.graph_signature.user_inputs
    shapes = [node.meta["val"].shape for node in program.graph.nodes if node.name in inputs]
    if len(shapes) != 1:
        raise DataError(f"{file} takes {len(inputs)} inputs: export a program that takes one batch of images.")
    fixed = shapes[0][0]
    return program.module(check_guards=False), fixed if isinstance(fixed, int) else None


def _filled(images: Tensor, count: int) -> Tensor:
    """As many images, the last one repeated."""
    return torch.cat([images, images[-1:].expand(count - len(images), *images.shape[1:])])


def _per_channel(
    name: str, values: Sequence[float] | None, channels: int, *, neutral: float, device: torch.device
) -> Tensor:
    if values is not None and len(values) != channels:
        raise ConfigError(f"{name} has {len(values)} numbers, but images have {channels} channels: give one each.")
    return torch.tensor([neutral] * channels if values is None else values, device=device)[:, None, None]


def _one_line(error: BaseException) -> str:
    """The last line of an error's message, where programs say what was wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".")[:200] if lines else type(error).__name__
