"""Drawn faces: the same from the same numbers, different between people, with traits that can be seen."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from workloads.datasets.avatars.dataset import Avatars, AvatarsConfig
from workloads.datasets.avatars.drawing import SKINS, Circumstances, Traits, draw_face


def avatars(**settings: int) -> Avatars:
    fields = {"people": 4, "images_per_identity": 3, "image_size": 32, **settings}
    return Avatars(AvatarsConfig.model_validate(fields))


def test_the_same_numbers_draw_the_same_pictures() -> None:
    assert torch.equal(avatars().load().images, avatars().load().images)


def test_a_picture_depends_on_its_own_numbers_alone() -> None:
    few, many = avatars().load(), avatars(people=6, images_per_identity=5).load()
    first_three = (many.identities == 2).nonzero().flatten()[:3]
    assert torch.equal(few.images[few.identities == 2], many.images[first_three])
    later = avatars(first=2, people=2).load()
    assert torch.equal(few.images[few.identities == 2], later.images[later.identities == 0])


def test_people_are_numbered_so_that_two_sets_need_not_meet() -> None:
    assert set(avatars().names()).isdisjoint(avatars(first=4).names())


def test_another_seed_is_another_population() -> None:
    assert not torch.equal(avatars().load().images, avatars(seed=1).load().images)
    assert avatars().digest() != avatars(seed=1).digest()


def test_pictures_of_a_person_differ_less_than_people_do() -> None:
    pictures = avatars(people=12, images_per_identity=12, image_size=48).load()
    faces = pictures.images[:, :, 12:36, 14:34].float().flatten(1)
    faces = (faces - faces.mean(1, keepdim=True)) / faces.std(1, keepdim=True)
    distances = torch.cdist(faces, faces).fill_diagonal_(float("inf"))
    nearest = pictures.identities[distances.argmin(1)]
    assert (nearest == pictures.identities).double().mean() > 0.7  # chance is 0.08


STILL = Circumstances(0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1, (0, 255, 0))
PLAIN = dataclasses.replace(Traits.draw(np.random.default_rng(3)), style=0, beard=0, glasses=0, skin=0, hair=0)


def drawn(**traits: Any) -> np.ndarray:
    face = draw_face(dataclasses.replace(PLAIN, **traits), STILL, 96)
    return np.asarray(face).astype(int)


def test_skin_has_the_colour_it_is_given() -> None:
    for skin, colour in enumerate(SKINS):
        assert drawn(skin=skin)[30, 48].tolist() == pytest.approx(colour, abs=2)


@pytest.mark.parametrize(
    ("trait", "values", "rows", "columns"),
    [
        ("glasses", (0, 2), slice(38, 52), slice(24, 72)),
        ("beard", (0, 3), slice(58, 84), slice(34, 62)),
        ("style", (0, 4), slice(2, 64), slice(4, 92)),
        ("iris", (0, 3), slice(40, 50), slice(30, 66)),
        ("mouth_width", (0.085, 0.15), slice(58, 76), slice(30, 66)),
        ("nose_width", (0.03, 0.065), slice(48, 64), slice(40, 56)),
        ("brow_weight", (0.01, 0.028), slice(30, 42), slice(24, 72)),
        ("eye_distance", (0.105, 0.15), slice(38, 50), slice(24, 72)),
        ("head_width", (0.25, 0.34), slice(4, 92), slice(8, 88)),
    ],
)
def test_a_trait_is_seen_where_it_belongs(trait: str, values: tuple[float, float], rows: slice, columns: slice) -> None:
    first, second = (drawn(**{trait: value}) for value in values)
    changed = np.abs(first - second).max(2) > 20
    assert changed[rows, columns].sum() > 10
    assert changed.sum() <= 2.5 * changed[rows, columns].sum(), "it changes the picture mostly there"


def test_traits_are_listed_in_the_order_of_the_classes() -> None:
    table = avatars().trait_table()
    assert table["skin"] == [float(avatars().traits(name).skin) for name in avatars().names()]
    assert len(table) == len(dataclasses.fields(Traits))
