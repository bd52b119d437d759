"""Readers of data sets as they are downloaded, each on its layout in miniature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from tests.support import downloads
from tests.support.downloads import files, pixels
from workloads.core.errors import DataError
from workloads.datasets.afhq_dogs import AfhqDogs, AfhqDogsConfig
from workloads.datasets.base import DATASETS
from workloads.datasets.celeba import Celeba, CelebaConfig
from workloads.datasets.emnist import EmnistConfig
from workloads.datasets.facescrub import Facescrub, FacescrubConfig
from workloads.datasets.ffhq import Ffhq, FfhqConfig
from workloads.datasets.lfw import Lfw, LfwConfig
from workloads.datasets.metfaces import Metfaces, MetfacesConfig
from workloads.datasets.mnist import Mnist, MnistConfig
from workloads.datasets.preparation.archives import Archive
from workloads.datasets.reading.raw import SUFFIXES, RawConfig, draw_parts, open_download
from workloads.datasets.stanford_dogs import StanfordDogs, StanfordDogsConfig

# The split over drawn images


def test_nine_in_ten_images_are_trained_on_as_numpy_shuffles_them_with_seed_42() -> None:
    # NumPy shuffles ten with seed 42 to 8 1 5 0 7 2 9 4 3 6, of which the last is left.
    assert [position for position, part in enumerate(draw_parts(10)) if part == "test"] == [6]


def test_the_draw_is_that_of_shuffling_a_list_of_indices() -> None:
    indices = list(range(137))
    np.random.RandomState(42).shuffle(indices)
    assert [position for position, part in enumerate(draw_parts(137)) if part == "train"] == sorted(indices[:123])


def test_an_image_file_is_what_imagefolder_takes_for_one() -> None:
    assert set(IMG_EXTENSIONS) == SUFFIXES


# FaceScrub


def facescrub(root: Path, **changes: Any) -> Facescrub:
    downloads.folders(root / "actors/faces", {"Zac": 3, "Adam": 2})
    downloads.folders(root / "actresses/faces", {"Bea": 3, "Amy": 2})
    return Facescrub(FacescrubConfig.model_validate({"path": str(root), "check": False, **changes}))


def test_facescrub_counts_actors_before_actresses(tmp_path: Path) -> None:
    assert facescrub(tmp_path).names() == ("Adam", "Zac", "Amy", "Bea")


def test_facescrub_lists_images_in_the_order_of_imagefolder(tmp_path: Path) -> None:
    listed = [str(tmp_path / entry.file) for entry in facescrub(tmp_path).entries]
    actors, actresses = (ImageFolder(tmp_path / f"{group}/faces").imgs for group in ("actors", "actresses"))
    assert listed == [file for file, _ in actors + actresses]


def test_facescrub_holds_out_what_is_drawn_over_the_files_that_are_there(tmp_path: Path) -> None:
    assert files(facescrub(tmp_path), "test") == ["Amy_0002.jpg"]  # position 6 of ten


def test_facescrub_is_found_in_the_layout_of_its_mirror(tmp_path: Path) -> None:
    downloads.folders(tmp_path / "actor_faces", {"Adam": 1})
    downloads.folders(tmp_path / "actress_faces", {"Amy": 1})
    assert Facescrub(FacescrubConfig(path=str(tmp_path), check=False)).names() == ("Adam", "Amy")


def test_facescrub_keeps_the_middle_where_it_is_asked_to(tmp_path: Path) -> None:
    assert pixels(facescrub(tmp_path, crop=6)).shape == (6, 6, 3)


def test_facescrub_of_fewer_people_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds 4 people, where 530 people were published"):
        facescrub(tmp_path, check=True).available()


# Stanford Dogs


def dogs(root: Path, **changes: Any) -> StanfordDogs:
    return StanfordDogs(StanfordDogsConfig.model_validate({"path": str(root), "check": False, **changes}))


def test_dogs_are_listed_by_breed_with_the_training_list_first(tmp_path: Path) -> None:
    dataset = dogs(downloads.dogs(tmp_path))
    assert [Path(entry.file).stem for entry in dataset.entries] == ["n01_2", "n01_1", "n02_3", "n02_2", "n02_1"]
    assert dataset.names() == ("n01-Chow", "n02-Beagle")


def test_dogs_are_drawn_anew_over_both_lists(tmp_path: Path) -> None:
    # NumPy shuffles five with seed 42 to 1 4 2 0 3; int(0.9 * 5) = 4 are trained on, the fourth listed is left.
    assert files(dogs(downloads.dogs(tmp_path)), "test") == ["n01_1.jpg"]


def test_dogs_are_whole_where_no_box_is_asked_for(tmp_path: Path) -> None:
    assert pixels(dogs(downloads.dogs(tmp_path))).shape == (10, 12, 3)


def test_dogs_are_cut_out_along_the_first_box(tmp_path: Path) -> None:
    cut = pixels(dogs(downloads.dogs(tmp_path), cropped=True))
    assert cut.shape == (4, 6, 3)
    assert cut.mean() > 200  # the box is white, but JPEG


def test_a_dog_whose_box_cannot_be_read_is_named(tmp_path: Path) -> None:
    downloads.dogs(tmp_path)
    (tmp_path / "Annotation/n01-Chow/n01_2").write_text("<annotation></annotation>")
    with pytest.raises(DataError, match="n01_2: no box that can be read"):
        pixels(dogs(tmp_path, cropped=True))


def test_a_list_that_is_not_of_matlab_is_refused(tmp_path: Path) -> None:
    downloads.dogs(tmp_path)
    (tmp_path / "test_list.mat").write_bytes(b"<html>not found</html>" * 10)
    with pytest.raises(DataError, match=r"test_list.mat is not a list of Stanford Dogs"):
        dogs(tmp_path).available()


def test_dogs_in_other_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds 5 images, 2 breeds, where 20580 images, 120 breeds were published"):
        dogs(downloads.dogs(tmp_path), check=True).available()


# Public data without identities


def test_ffhq_is_numbered_in_folders_of_a_thousand() -> None:
    listed = [entry.file for entry in Ffhq(FfhqConfig(path="anywhere", images=1001)).list_entries()]
    assert listed[999:] == ["thumbnails128x128/00000/00999.png", "thumbnails128x128/01000/01000.png"]


def test_ffhq_keeps_the_central_88_of_128_pixels(tmp_path: Path) -> None:
    downloads.framed(tmp_path / "thumbnails128x128/00000/00000.png", (128, 128), (20, 20, 108, 108))
    kept = pixels(Ffhq(FfhqConfig(path=str(tmp_path), images=1)))
    assert kept.shape == (88, 88, 3)
    assert (kept == 255).all()


def test_ffhq_is_one_class(tmp_path: Path) -> None:
    assert Ffhq(FfhqConfig(path=str(tmp_path), images=3)).names() == ("ffhq",)


def test_afhq_dogs_have_the_parts_of_their_folders(tmp_path: Path) -> None:
    downloads.folders(tmp_path / "afhq", {"train/dog": 2, "train/cat": 1, "val/dog": 1})
    dataset = AfhqDogs(AfhqDogsConfig(path=str(tmp_path)))
    assert [entry.file for entry in dataset.entries] == [
        "train/dog/dog_0001.jpg",
        "train/dog/dog_0002.jpg",
        "val/dog/dog_0001.jpg",
    ]
    assert [entry.part for entry in dataset.entries] == ["train", "train", "test"]


def test_metfaces_are_too_small_for_a_crop_they_do_not_fill(tmp_path: Path) -> None:
    downloads.folders(tmp_path, {"images": 1})
    with pytest.raises(DataError, match="8 x 8 pixels, of which the central 800 cannot be kept"):
        pixels(Metfaces(MetfacesConfig(path=str(tmp_path))))


def test_an_odd_margin_is_wider_to_the_right_and_below(tmp_path: Path) -> None:
    downloads.framed(tmp_path / "images/a.png", (9, 9), (2, 2, 6, 6))
    assert (pixels(Metfaces(MetfacesConfig(path=str(tmp_path), crop=4))) == 255).all()


# LFW


def lfw(root: Path, **changes: Any) -> Lfw:
    return Lfw(LfwConfig.model_validate({"path": str(root), "check": False, "private_images": 3, **changes}))


PEOPLE = {"Ann_Lee": 3, "Bo_Li": 1, "Cy_Dee": 4}


@pytest.mark.parametrize("folder", ["", "lfw-py/lfw_funneled", "lfw-deepfunneled", "lfw"])
def test_lfw_is_found_in_every_layout(tmp_path: Path, folder: str) -> None:
    downloads.folders(tmp_path / folder, PEOPLE)
    assert lfw(tmp_path).names() == ("Ann_Lee", "Cy_Dee")


def test_people_with_few_images_are_public_in_lfw(tmp_path: Path) -> None:
    assert lfw(downloads.folders(tmp_path, PEOPLE), side="public").names() == ("Bo_Li",)


def test_lfw_publishes_no_split_of_images(tmp_path: Path) -> None:
    assert not lfw(downloads.folders(tmp_path, PEOPLE)).publishes_split()


def test_lfw_in_other_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds 8 images, 3 people, where 13233 images, 5749 people were published"):
        lfw(downloads.folders(tmp_path, PEOPLE), check=True).available()


# What all downloads share


def test_a_missing_folder_is_named() -> None:
    with pytest.raises(DataError, match="path: no folder at nowhere: give the one that mnist was downloaded to"):
        Mnist(MnistConfig(path="nowhere")).available()


def test_a_missing_part_of_a_layout_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no test/dog or val/dog"):
        AfhqDogs(AfhqDogsConfig(path=str(downloads.folders(tmp_path, {"train/dog": 1})))).available()


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="holds no images of metfaces"):
        Metfaces(MetfacesConfig(path=str(tmp_path))).available()


def test_a_digest_names_the_first_missing_file(tmp_path: Path) -> None:
    downloads.picture(tmp_path / "thumbnails128x128/00000/00000.png")
    with pytest.raises(DataError, match=r"2 of 3 files are missing, .*00001.png first"):
        Ffhq(FfhqConfig(path=str(tmp_path), images=3)).digest()


def test_a_digest_changes_with_the_bytes_of_an_image(tmp_path: Path) -> None:
    before = lfw(downloads.folders(tmp_path, PEOPLE)).digest()
    downloads.picture(tmp_path / "Ann_Lee/Ann_Lee_0001.jpg", grey=101)
    assert lfw(tmp_path).digest() != before


def test_a_digest_changes_with_a_box(tmp_path: Path) -> None:
    before = dogs(downloads.dogs(tmp_path), cropped=True).digest()
    annotation = tmp_path / "Annotation/n01-Chow/n01_1"
    annotation.write_text(annotation.read_text().replace("<xmin>2", "<xmin>1"))
    assert dogs(tmp_path, cropped=True).digest() != before


def test_a_digest_does_not_depend_on_where_the_download_lies(tmp_path: Path) -> None:
    here, there = (lfw(downloads.folders(tmp_path / name, PEOPLE)).digest() for name in ("here", "there"))
    assert here == there


def test_a_download_is_used_in_a_spec_as_it_lies(tmp_path: Path) -> None:
    config = CelebaConfig(path=str(downloads.celeba(tmp_path)), check=False, image_size=16, channels=1)
    loaded = DATASETS.build(config).load()
    assert loaded.images.shape == (6, 1, 16, 16)
    assert loaded.held_out is not None
    assert loaded.held_out.tolist() == [False, False, True, False, False, True]
    torch.testing.assert_close(  # greys of images 2 5 9 6 1 7, JPEG
        loaded.images.float().mean((1, 2, 3)), torch.tensor([40.0, 100, 180, 120, 20, 140]), atol=2, rtol=0
    )


@pytest.mark.parametrize(
    ("config", "name", "options"),
    [
        (CelebaConfig(path="here"), "CelebA", {"split": "all", "download": True}),
        (MnistConfig(path="here"), "MNIST", {"download": True}),
        (EmnistConfig(path="here", variant="balanced"), "EMNIST", {"split": "balanced", "download": True}),
    ],
)
def test_torchvision_downloads_what_it_can(
    monkeypatch: pytest.MonkeyPatch, config: RawConfig, name: str, options: dict[str, Any]
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(f"torchvision.datasets.{name}", lambda root, **options: calls.append((root, options)))
    open_download(config).download()
    assert calls == [("here", options)]


def test_lfw_is_downloaded_unless_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[Path] = []
    monkeypatch.setattr(Archive, "unpack_into", lambda archive, folder: folders.append(folder))
    lfw = open_download(LfwConfig(path=str(tmp_path)))
    lfw.download()
    (tmp_path / "lfw_funneled").mkdir()
    lfw.download()
    assert folders == [tmp_path]


def test_a_download_that_fails_is_the_users_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: str, **options: Any) -> None:
        raise RuntimeError("'gdown' is required")

    monkeypatch.setattr("torchvision.datasets.CelebA", fail)
    with pytest.raises(DataError, match="celeba: the download failed: 'gdown' is required"):
        Celeba(CelebaConfig(path="here")).download()


@pytest.mark.parametrize(
    "config",
    [
        FacescrubConfig(path="here"),
        StanfordDogsConfig(path="here"),
        FfhqConfig(path="here"),
        AfhqDogsConfig(path="here"),
        MetfacesConfig(path="here"),
    ],
    ids=lambda config: config.kind,
)
def test_what_cannot_be_downloaded_says_where_to_get_it(config: RawConfig) -> None:
    with pytest.raises(DataError, match=f"{config.kind}: it cannot be downloaded by a program: [a-z]"):
        open_download(config).download()
