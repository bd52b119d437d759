"""What checking a spec says of its images: bad ones, leaks between private, public and held-out ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from orchestrator.errors import SpecError
from orchestrator.spec.loading import load_spec, resolve
from orchestrator.spec.model import ResolvedSpec
from tests.support.pictures import encoded, noise

Row = tuple[str, bytes | None]
SPEC: dict[str, Any] = {
    "name": "data",
    "data": {
        "private": {"kind": "parquet", "path": "private.parquet", "image_size": 32},
        "public": {"kind": "parquet", "path": "public.parquet", "image_size": 32},
    },
    "target": {"model": {"kind": "small_cnn", "width": 2}},
    "evaluation": {"model": {"kind": "small_cnn", "width": 2}},
    "prior": {"kind": "wgan_gp"},
    "attacks": [{"kind": "gmi", "steps": 1}],
}


def people(names: str, first: int, images: int = 2) -> list[Row]:
    """Rows of each person with pictures that nobody else has, numbered from `first`."""
    labels = [name for name in names for _ in range(images)]
    return [(label, encoded(noise(first + number))) for number, label in enumerate(labels)]


def table(file: Path, rows: list[Row], **columns: list[str]) -> None:
    labels, images = zip(*rows, strict=True)
    parquet.write_table(pa.table({"identity": labels, "image": pa.array(images, pa.binary()), **columns}), file)


def checked(folder: Path, private: list[Row], public: list[Row], /, **data: Any) -> ResolvedSpec:
    """Check a spec of these tables; `data` are fields of its section."""
    table(folder / "private.parquet", private)
    table(folder / "public.parquet", public)
    return checked_spec(folder, **data)


def checked_spec(folder: Path, **data: Any) -> ResolvedSpec:
    (folder / "spec.yaml").write_text(json.dumps({**SPEC, "data": {**SPEC["data"], **data}}))
    return resolve(*load_spec(folder / "spec.yaml"), nodes=None)


def side(name: str, **settings: Any) -> dict[str, Any]:
    return {name: {**SPEC["data"][name], **settings}}


def refusal(folder: Path, private: list[Row], public: list[Row], /, **data: Any) -> str:
    with pytest.raises(SpecError) as caught:
        checked(folder, private, public, **data)
    return str(caught.value).replace(f"{folder}/", "")


def test_there_is_nothing_to_say_of_good_data(tmp_path: Path) -> None:
    assert checked(tmp_path, people("ab", 0), people("cd", 10)).notes == ()


# Images that are none


def test_all_bad_images_are_named_at_once(tmp_path: Path) -> None:
    private = [("a", b"broken"), *people("ab", 0), ("b", b""), ("b", None)]
    assert refusal(tmp_path, private, people("cd", 10)) == (
        "spec.yaml:1: data.private: column 'image' has 1 missing image, 2 of 7 images cannot be read: private.parquet: "
        "row 0: not an image that can be read: it is in no format that Pillow reads; private.parquet: row 5: not an "
        "image that can be read: it is empty. Replace them, or set on_bad_image: skip."
    )


def test_missing_and_damaged_files_of_a_folder_are_named_at_once(tmp_path: Path) -> None:
    table(tmp_path / "public.parquet", people("c", 10))
    for number, file in enumerate(["a/0.png", "a/1.png", "b/0.png", "b/1.png"]):
        (tmp_path / "faces" / file).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "faces" / file).write_bytes(encoded(noise(number)))
    for link in ("a/x.png", "b/x.png"):
        (tmp_path / "faces" / link).symlink_to("/nowhere.png")
    (tmp_path / "faces/b/y.png").write_bytes(b"")
    with pytest.raises(SpecError) as caught:
        checked_spec(tmp_path, private={"kind": "image_folder", "path": "faces", "image_size": 32})
    assert str(caught.value).replace(f"{tmp_path}/", "") == (
        "spec.yaml:1: data.private: 3 of 7 images cannot be read: faces/a/x.png: missing; faces/b/x.png: missing; "
        "faces/b/y.png: not an image that can be read: it is empty. Replace them, or set on_bad_image: skip."
    )


def test_skipped_images_are_noted(tmp_path: Path) -> None:
    private = [*people("ab", 0), ("b", None), ("b", None)]
    notes = checked(tmp_path, private, people("cd", 10), **side("private", on_bad_image="skip")).notes
    assert notes == ("data.private: column 'image' has 2 missing images: skipped.",)


def test_somebody_who_is_left_with_one_image_is_refused(tmp_path: Path) -> None:
    private = [*people("ab", 0), *people("c", 9, images=1), ("c", b"broken")]
    message = refusal(tmp_path, private, people("de", 20), **side("private", on_bad_image="skip"))
    assert message.endswith("data.private.identities: 'c' has fewer than 2 images that can be read: name the rest.")


def test_what_is_left_out_is_noted(tmp_path: Path) -> None:
    table(tmp_path / "private.parquet", people("ab", 0))
    for file in ("c/0.png", "d/0.png", "d/._0.png", "d/.x/0.png", ".hidden/0.png", "d/notes.txt"):
        (tmp_path / "faces" / file).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "faces" / file).write_bytes(encoded(noise(len(file) + ord(file[0]))))
    notes = checked_spec(tmp_path, public={"kind": "image_folder", "path": "faces", "image_size": 32}).notes
    assert notes == (
        "data.public: left out: 3 hidden files or folders, 1 file ending in .txt, which Pillow does not read.",
    )


def test_bad_images_of_people_that_a_search_adds_are_named(tmp_path: Path) -> None:
    table(tmp_path / "private.parquet", [*people("ab", 0), *people("c", 5), ("c", b"")])
    table(tmp_path / "public.parquet", people("d", 10))
    space = {"data.private.identities": {"kind": "choice", "values": [["a", "b"], ["a", "c"]]}}
    data = {**SPEC["data"], **side("private", identities=["a", "b"])}
    (tmp_path / "spec.yaml").write_text(json.dumps({**SPEC, "data": data, "search": {"space": space}}))
    with pytest.raises(SpecError, match=r"the value \['a', 'c'\] is refused: data\.private: 1 of 5 images cannot be"):
        resolve(*load_spec(tmp_path / "spec.yaml"), nodes=None)


# Leaks


def test_public_images_that_are_private_ones_are_refused(tmp_path: Path) -> None:
    private = people("ab", 0)
    public = [*people("c", 10), ("d", private[1][1]), ("d", encoded(noise(3), "BMP"))]
    assert refusal(tmp_path, private, public) == (
        "spec.yaml:1: data.public: 2 of 4 public images are private ones, pixel for pixel, such as public.parquet: row "
        "2, which is private.parquet: row 1: what the attacker has must not hold what must not leak. Take them out, or "
        "set data.copies: report."
    )


def test_public_images_that_are_private_ones_can_be_reported_instead(tmp_path: Path) -> None:
    private = people("ab", 0)
    resolved = checked(tmp_path, private, [*people("c", 10), ("c", private[0][1])], copies="report")
    assert len(resolved.notes) == 1
    assert resolved.notes[0].startswith("data.public: 1 of 3 public images are private ones, pixel for pixel")


def test_private_images_beyond_those_that_are_used_do_not_leak(tmp_path: Path) -> None:
    private = people("ab", 0, images=3)
    public = [*people("c", 10), ("c", private[2][1])]
    assert checked(tmp_path, private, public, **side("private", max_per_identity=2)).notes == ()


def test_held_out_copies_of_training_images_are_noted(tmp_path: Path) -> None:
    ann, bob = people("ab", 0, images=1)
    notes = checked(tmp_path, [ann, ann, bob, bob, *people("c", 5)], people("d", 20)).notes
    assert notes == (
        "data.private: held-out images of a, b are copies of training images (2 of 3): natural accuracy is measured on "
        "them too.",
    )


def test_near_copies_are_noted(tmp_path: Path) -> None:
    private, picture = people("ab", 0), noise(0, 64)
    brighter = (picture // 2 + 100).astype("uint8")
    notes = checked(tmp_path, [*private, ("a", encoded(picture))], [*people("c", 10), ("c", encoded(brighter))]).notes
    assert len(notes) == 1
    assert notes[0].startswith("data.public: 1 public image looks like private ones, such as")


@pytest.mark.parametrize(
    ("private", "public"),
    [("ann lee", "Ann_Lee"), ("Jos\u00e9", "Jose\u0301"), ("ann", "ANN"), ("Ann Lee", "AnnLee")],
)
def test_names_that_are_written_in_two_ways_are_one_person(tmp_path: Path, private: str, public: str) -> None:
    rows = [(private, image) for _, image in people("a", 0)] + people("b", 5)
    message = refusal(tmp_path, rows, [(public, image) for _, image in people("c", 10)])
    assert message.endswith(
        f"data.public.identities: {public!r}, there {private!r}, is private too: what the attacker has must not hold "
        "what must not leak."
    )


def test_classes_that_differ_in_spelling_alone_are_noted(tmp_path: Path) -> None:
    rows = [(name, image) for (_, image), name in zip(people("abcd", 0, 1), ["Ann", "Ann", "ann", "ann"], strict=True)]
    assert checked(tmp_path, rows, people("e", 10)).notes == (
        "data.private: 'Ann' and 'ann' are different identities here, and may be one person.",
    )


def test_names_that_look_the_same_are_written_in_ascii(tmp_path: Path) -> None:
    names = ["Jos\u00e9", "Jos\u00e9", "Jose\u0301", "Jose\u0301"]
    rows = [(name, image) for (_, image), name in zip(people("abcd", 0, 1), names, strict=True)]
    (note,) = checked(tmp_path, rows, people("e", 10)).notes
    assert note.startswith(r"data.private: 'Jose\u0301' and 'Jos\xe9' are different identities here")


def test_people_are_the_same_in_data_sets_of_different_kinds(tmp_path: Path) -> None:
    table(tmp_path / "private.parquet", people("ab", 0))
    for number in range(2):
        (tmp_path / "lfw/a").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"lfw/a/{number}.png").write_bytes(encoded(noise(20 + number)))
    lfw = {"kind": "lfw", "path": "lfw", "check": False, "side": "public", "image_size": 32}
    with pytest.raises(SpecError, match=r"data\.public\.identities: 'a' is private too"):
        checked_spec(tmp_path, public=lfw)


def test_numbers_of_different_kinds_mean_different_things(tmp_path: Path) -> None:
    public = {"kind": "digits", "identities": ["1"], "channels": 3, "image_size": 32, "max_per_identity": 2}
    table(tmp_path / "private.parquet", people("12", 0))
    assert checked_spec(tmp_path, public=public).notes == ()


# Splits


@pytest.mark.parametrize("part", ["valid", "training"])
def test_parts_that_are_none_are_refused_before_a_run(tmp_path: Path, part: str) -> None:
    table(tmp_path / "private.parquet", people("ab", 0), part=["train", "test", "train", part])
    table(tmp_path / "public.parquet", people("c", 10))
    with pytest.raises(SpecError, match=rf"data\.private\.part_column: .*row 3: 'part' is '{part}', not 'train' or"):
        checked_spec(tmp_path, split={"rule": "published"}, **side("private", part_column="part"))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["train", "test", "test", "test"], "data.private.identities: the published split trains on no image of 'b'"),
        (["train"] * 4, "data.split.rule: the published split holds no image out: set it to fraction."),
    ],
)
def test_a_published_split_that_cannot_be_used_is_refused(tmp_path: Path, parts: list[str], message: str) -> None:
    table(tmp_path / "private.parquet", people("ab", 0), part=parts)
    table(tmp_path / "public.parquet", people("c", 10))
    with pytest.raises(SpecError) as caught:
        checked_spec(tmp_path, split={"rule": "published"}, **side("private", part_column="part"))
    assert message in str(caught.value)


def test_a_published_split_that_is_not_used_is_noted(tmp_path: Path) -> None:
    table(tmp_path / "private.parquet", people("ab", 0), part=["train", "test"] * 2)
    table(tmp_path / "public.parquet", people("c", 10))
    assert checked_spec(tmp_path, **side("private", part_column="part")).notes == (
        "data.private: the split that comes with it is not used, so that models train on images of its test part: set "
        "data.split.rule: published to take it.",
    )


def test_one_identity_is_refused_with_where_more_may_be(tmp_path: Path) -> None:
    table(tmp_path / "public.parquet", people("c", 10))
    for name in "ab":
        (tmp_path / "all/faces" / name).mkdir(parents=True)
        (tmp_path / f"all/faces/{name}/0.png").write_bytes(encoded(noise(ord(name))))
    with pytest.raises(SpecError) as caught:
        checked_spec(tmp_path, private={"kind": "image_folder", "path": "all", "image_size": 32})
    assert str(caught.value).endswith(
        "data.private.identities: has 1 identity: a classifier needs at least 2. faces/ is one identity, with all "
        f"folders in it: if these are the identities, set path: {tmp_path}/all/faces."
    )


def test_copies_across_a_published_split_are_noted(tmp_path: Path) -> None:
    rows = people("ab", 0)
    table(tmp_path / "private.parquet", [*rows, rows[0]], part=["train", "test", "train", "test", "test"])
    table(tmp_path / "public.parquet", people("c", 10))
    notes = checked_spec(tmp_path, split={"rule": "published"}, **side("private", part_column="part")).notes
    assert len(notes) == 1
    assert notes[0].startswith("data.private: held-out images of a are copies of training images (1 of 3)")


def test_erasing_that_cannot_happen_is_noted_for_every_point_of_the_search(tmp_path: Path) -> None:
    table(tmp_path / "private.parquet", people("ab", 0))
    table(tmp_path / "public.parquet", people("c", 10))
    spec = {
        **SPEC,
        "defenses": [{"kind": "random_erasing", "min_area": 0.9, "max_area": 0.95}],
        "search": {"space": {"defenses.0.max_aspect": {"kind": "choice", "values": [1.0, 3.0]}}},
    }
    (tmp_path / "spec.yaml").write_text(json.dumps(spec))
    assert resolve(*load_spec(tmp_path / "spec.yaml"), nodes=None).notes == (
        "defenses.0: areas 0.9 to 0.95 with aspects 0.33 to 3 leave 65% of the images whole: in 10 attempts no box "
        "fits into 32 x 32 pixels.",
    )
