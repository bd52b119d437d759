"""Answers of a black box: of each kind they become logits in our order, and what is not as stated is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast

import pytest
import torch
from torch import Tensor

from workloads.black_boxes.box import BlackBox, BlackBoxConfig
from workloads.core.errors import AnswerError, ConfigError
from workloads.observation.oracles import LabelOracle, ScoreOracle

Kind = Literal["logits", "probabilities", "labels"]
IMAGES = torch.zeros(2, 1, 4, 4)


class Fixed(BlackBox):
    """Answers every call as it is told, and remembers what it was shown."""

    def __init__(self, config: BlackBoxConfig, answer: Callable[[Tensor], Tensor]) -> None:
        super().__init__(config, ("ann", "bob", "cy"))
        self.answer, self.shown = answer, list[tuple[int, ...]]()

    def ask(self, images: Tensor) -> Tensor:
        self.shown.append(tuple(images.shape))
        return self.answer(images)


def box(answers: Kind, reply: Tensor | object, classes: tuple[str, ...] | None = None) -> Fixed:
    return Fixed(BlackBoxConfig(answers=answers, classes=classes), lambda images: cast("Tensor", reply))


def test_probabilities_come_back_through_the_oracle_as_they_were_given() -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.0, 1.0]])
    assert torch.allclose(ScoreOracle(box("probabilities", probabilities)).probabilities(IMAGES), probabilities)


def test_logits_are_put_into_the_order_of_the_identities() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    expected = torch.tensor([[2.0, 3.0, 1.0], [5.0, 6.0, 4.0]])  # outputs stand for cy, ann, bob; wanted ann, bob, cy
    assert torch.equal(box("logits", logits, classes=("cy", "ann", "bob"))(IMAGES), expected)


def test_labels_are_named_in_the_order_of_the_identities() -> None:
    oracle = LabelOracle(box("labels", torch.tensor([0, 2]), classes=("cy", "ann", "bob")))
    assert oracle.labels(IMAGES).tolist() == [2, 1]  # cy, bob
    assert oracle.queries == 2


def test_who_gives_labels_gives_no_scores() -> None:
    assert (box("labels", IMAGES).access, box("logits", IMAGES).access) == (LabelOracle, ScoreOracle)


def test_images_come_in_batches_of_the_stated_size() -> None:
    target = Fixed(
        BlackBoxConfig(answers="labels", batch=2, input_size=8), lambda images: torch.zeros(len(images)).long()
    )
    target(torch.zeros(5, 1, 4, 4))
    assert target.shown == [(2, 1, 8, 8), (2, 1, 8, 8), (1, 1, 8, 8)]


@pytest.mark.parametrize(
    ("answers", "reply", "message"),
    [
        ("logits", torch.zeros(2, 4), "2 images with a tensor of 2 x 4, but logits of 3 classes have 2 x 3"),
        ("labels", torch.zeros(2, 3), "2 images with a tensor of 2 x 3, but labels of 3 classes have 2:"),
        ("logits", torch.full((2, 3), torch.nan), "numbers that are not finite"),
        ("labels", torch.tensor([1, 3]), r"names class 3, but labels lie in \[0, 3\): count classes from 0"),
        ("labels", torch.tensor([1.0, 2.0]), "torch.float32, but labels are whole numbers"),
        ("probabilities", torch.full((2, 3), 0.5), "sum to 1.5, but probabilities are at least 0 and sum to 1"),
        ("probabilities", torch.tensor([[-1.0, 1, 1]] * 2), "numbers from -1 that sum to 1, but probabilities are at"),
        ("logits", [1, 2], "answers with a list: a tensor is needed"),
    ],
)
def test_answers_other_than_stated_are_refused(answers: Kind, reply: Tensor | object, message: str) -> None:
    with pytest.raises(AnswerError, match=message):
        box(answers, reply)(IMAGES)


def test_classes_of_other_people_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.private has 'cy', which the other lacks"):
        box("logits", IMAGES, classes=("ann", "bob", "eve"))
    with pytest.raises(ConfigError, match="classes names 'ann' twice"):
        box("logits", IMAGES, classes=("ann", "bob", "cy", "ann"))
