"""What a black box is: images go in, answers of a stated kind come out, and are checked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import BeforeValidator, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from workloads.core.config import FrozenConfig
from workloads.core.errors import AnswerError
from workloads.core.resampling import resize
from workloads.observation.oracles import LabelOracle, ScoreOracle
from workloads.training.class_names import names_in, outputs_of

SUM_TOLERANCE = 0.05
"""How far probabilities may be from a sum of 1: services round them."""


class BlackBoxConfig(FrozenConfig):
    """What is stated of a target model that can only be asked."""

    answers: Literal["logits", "probabilities", "labels"]
    """What it says of an image: a logit or a probability of each class, or the number of one class, counted from 0."""
    classes: Annotated[
        tuple[str, ...] | None, BeforeValidator(names_in, json_schema_input_type=list[str] | str | None)
    ] = None
    """What its outputs stand for, in their order: names of the private identities, or a text file with one a line. If
    omitted, they have the order of the identities."""
    input_size: PositiveInt | None = None
    """Side in pixels of the images that it takes; images of another size are resized to it. If omitted, that of the
    data set, whose channels it takes in any case."""
    batch: PositiveInt = 256
    """Images in a call, at most."""

    @property
    def access(self) -> type[LabelOracle]:
        """The most that an attacker can learn from its answers."""
        return LabelOracle if self.answers == "labels" else ScoreOracle

    def check_classes(self, names: Sequence[str]) -> None:
        """Check that its classes are these identities.

        Raises:
            ConfigError: naming one that the other lacks.
        """
        if self.classes is not None:
            outputs_of(self.classes, names)


class BlackBox(ABC):
    """A target model that can only be asked. Calling it gives what an oracle takes: see `LabelOracle`."""

    def __init__(self, config: BlackBoxConfig, names: Sequence[str]) -> None:
        """`names` are the identities of the private data, in their order.

        Raises:
            ConfigError: if its classes are others.
        """
        self.config = config
        self.classes = len(names)
        """How many it tells apart."""
        self._outputs = torch.arange(self.classes)
        if config.classes is not None:
            self._outputs = torch.tensor(outputs_of(config.classes, names))

    @property
    def access(self) -> type[LabelOracle]:
        """The most that an attacker can learn from it."""
        return self.config.access

    @property
    def sent(self) -> int:
        """Images sent to it and counted, over all tries of a job; 0 where nothing counts them."""
        return 0

    @abstractmethod
    def ask(self, images: Tensor) -> Tensor:
        """Its answers as it gives them. Shape: (B, C, S, S) in [0, 1], B at most `batch`, to (B, classes) or (B,)."""

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits in the order of the identities; of labels 0 for the one that is named and -inf for others.

        Shape: (B, C, H, W) in [0, 1] to (B, classes), on the device of the images.

        Raises:
            AnswerError: if an answer is not what is stated.
        """
        if (size := self.config.input_size) is not None and images.shape[-1] != size:
            images = resize(images, (size, size), antialias=True)
        batches = images.split(self.config.batch)
        logits = torch.cat([self._logits(self.ask(batch), len(batch)).to(images.device) for batch in batches])
        return logits[:, self._outputs.to(images.device)]

    def _logits(self, answers: Tensor, count: int) -> Tensor:
        """Answers as logits, in the order in which they come."""
        if not isinstance(answers, Tensor):  # code of others: it may return anything
            raise AnswerError(f"it answers with a {type(answers).__name__}: a tensor is needed.")
        expected = (count,) if self.config.answers == "labels" else (count, self.classes)
        if tuple(answers.shape) != expected:
            raise AnswerError(
                f"it answers {count} images with a tensor of {_shape(answers)}, but {self.config.answers} of "
                f"{self.classes} classes have {' x '.join(map(str, expected))}: check answers and classes."
            )
        if self.config.answers == "labels":
            return _logits_of_labels(answers, self.classes)
        answers = answers.float()
        if not answers.isfinite().all():
            raise AnswerError("it answers with numbers that are not finite.")
        return _logits_of_probabilities(answers) if self.config.answers == "probabilities" else answers


def _logits_of_labels(labels: Tensor, classes: int) -> Tensor:
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise AnswerError(f"it answers with {labels.dtype}, but labels are whole numbers: check answers.")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise AnswerError(f"it names class {int(wrong[0])}, but labels lie in [0, {classes}): count classes from 0.")
    return F.one_hot(labels.long(), classes).float().log()


def _logits_of_probabilities(probabilities: Tensor) -> Tensor:
    """Logarithms, of which a softmax gives the probabilities back."""
    sums = probabilities.sum(1)
    worst = sums[(sums - 1).abs().argmax()].item()
    if probabilities.min() < 0 or abs(worst - 1) > SUM_TOLERANCE:
        raise AnswerError(
            f"it answers with numbers from {probabilities.min():.3g} that sum to {worst:.3g}, but probabilities are at "
            "least 0 and sum to 1: set answers to logits if they are."
        )
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


def _shape(answers: Tensor) -> str:
    return " x ".join(map(str, answers.shape)) or "one number"
