"""`midre data check` and `midre data show` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from orchestrator.cli.commands import app
from orchestrator.errors import RequestError
from tests.support.pictures import encoded, noise
from tests.support.toy import write_spec

SHAPE = {"kind": "image_folder", "image_size": 32, "channels": 3}


def data(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """Two private and one public person, three images each, 40 x 40."""
    for number, name in enumerate(["private/ann", "private/bob", "public/cy"]):
        (tmp_path / name).mkdir(parents=True)
        for image in range(3):
            (tmp_path / name / f"{image}.png").write_bytes(encoded(noise(10 * number + image, 40)))
    sides = {side: {**SHAPE, "path": side} for side in ("private", "public")}
    return write_spec(tmp_path, data=sides)


def test_good_data_is_counted(spec: Path) -> None:
    done = data("check", spec)
    assert done.exit_code == 0
    assert done.stdout == (
        "private: 2 identities, 6 images, 0 cannot be read\npublic: 1 identity, 3 images, 0 cannot be read\n"
    )


def test_every_bad_image_has_a_line(spec: Path) -> None:
    for number in range(2):
        (spec.parent / f"private/bob/{number}.png").write_bytes(b"")
    (spec.parent / "public/cy/.DS_Store").write_bytes(b"x")
    done = data("check", spec)
    assert done.exit_code == 2
    folder = spec.parent / "private/bob"
    assert done.stdout.splitlines()[1:3] == [
        f"  {folder}/{number}.png: not an image that can be read: it is empty" for number in range(2)
    ]
    assert "data.private: 2 of 6 images cannot be read" in done.stderr
    assert "note: data.public: left out: 1 hidden file or folder." in done.stderr


def test_what_was_found_can_be_read_as_json(spec: Path) -> None:
    (spec.parent / "private/bob/0.png").write_bytes(b"")
    printed = json.loads(data("check", spec, "--json").stdout)
    assert not printed["ok"]
    assert [bad["where"] for bad in printed["sides"]["private"]["bad"]] == [str(spec.parent / "private/bob/0.png")]
    assert printed["sides"]["public"] == {"identities": 1, "images": 3, "bad": [], "left_out": {}}
    assert [problem["field"] for problem in printed["problems"]] == ["data.private"]


def test_a_picture_shows_what_the_model_is_shown(spec: Path) -> None:
    done = data("show", spec, "--out", spec.parent / "sheet.png", "--images", "2", "--identities", "1")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "row 1: private ann",
        "row 2: private ann, as trained on (random_erasing)",
        "row 3: public cy",
    ]
    sheet = np.asarray(Image.open(spec.parent / "sheet.png"))
    assert sheet.shape == (3 * 33 - 1, 2 * 33 - 1, 3)  # images of 32 pixels, one white pixel apart
    scaled = np.asarray(Image.fromarray(noise(1, 40)).resize((32, 32), Image.Resampling.BILINEAR))
    assert np.array_equal(sheet[:32, 33:], scaled)
    changed = (sheet[33:65, :32] != sheet[:32, :32]).any(-1).mean()
    assert 0.05 < changed < 0.45  # the areas of random erasing are 0.1 to 0.4, before rounding to pixels


def test_a_row_with_too_few_images_is_white_at_its_end(spec: Path) -> None:
    assert data("show", spec, "--out", spec.parent / "sheet.png", "--images", "4").exit_code == 0
    assert (np.asarray(Image.open(spec.parent / "sheet.png"))[:32, 3 * 33 :] == 255).all()


def test_a_picture_needs_the_name_of_one(spec: Path) -> None:
    done = data("show", spec, "--out", "sheet.txt")
    assert isinstance(done.exception, RequestError)
    assert str(done.exception) == "--out sheet.txt: give a name that ends in one of .jpeg, .jpg, .png, .webp."
