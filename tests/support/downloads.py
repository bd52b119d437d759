"""Downloads in miniature: the layouts of published data sets with a few tiny images."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from workloads.datasets.reading.raw import RawDataset

# Twelve images of four people. Seen four times each: 7, then 5. Seen twice each: 9, then 3.
CELEBA_PEOPLE = ["7", "5", "9", "3", "5", "7", "7", "9", "5", "3", "7", "5"]
CELEBA_LISTS = {
    "trainset": ["000002.jpg 0", "000006.jpg 1", "000001.jpg 1", "000005.jpg 0"],
    "testset": ["000007.jpg 1", "000009.jpg 0"],
    "ganset": ["000004.jpg", "000003.jpg", "000008.jpg"],
}
DOGS = {"n02-Beagle": ["n02_1", "n02_2", "n02_3"], "n01-Chow": ["n01_1", "n01_2"]}


def picture(file: Path, size: tuple[int, int] = (8, 8), *, grey: int = 100) -> Path:
    """An image of one grey."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (grey, grey, grey)).save(file)
    return file


def framed(file: Path, size: tuple[int, int], box: tuple[int, int, int, int]) -> Path:
    """A black image with a white box."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), box)
    image.save(file)
    return file


def celeba(
    root: Path, *, size: tuple[int, int] = (178, 218), lists: Mapping[str, Iterable[str]] = CELEBA_LISTS
) -> Path:
    """Twelve images of CelebA, each of another grey: its number times 20."""
    for number, _ in enumerate(CELEBA_PEOPLE, start=1):
        picture(root / f"img_align_celeba/{number:06d}.jpg", size, grey=number * 20)
    rows = [f"{number:06d}.jpg {person}" for number, person in enumerate(CELEBA_PEOPLE, start=1)]
    (root / "identity_CelebA.txt").write_text("\n".join(rows) + "\n")
    (root / "meta").mkdir()
    for name, lines in lists.items():
        (root / f"meta/{name}.txt").write_text("\n".join(lines) + "\n")
    return root


def folders(root: Path, people: Mapping[str, int], *, size: tuple[int, int] = (8, 8)) -> Path:
    """Images of each person, in a folder each, named as in LFW."""
    for person, count in people.items():
        for number in range(1, count + 1):
            picture(root / person / f"{Path(person).name}_{number:04d}.jpg", size)
    return root


def dogs(root: Path) -> Path:
    """Five images of 12 x 10 with a box of 6 x 4 around the dog; three are in the training list, two in the other."""
    from scipy.io import savemat

    for breed, names in DOGS.items():
        for name in names:
            framed(root / f"Images/{breed}/{name}.jpg", (12, 10), (2, 3, 8, 7))
            annotation = root / f"Annotation/{breed}/{name}"
            annotation.parent.mkdir(parents=True, exist_ok=True)
            box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>8</xmax><ymax>7</ymax></bndbox>"
            second = "<object><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>1</xmax><ymax>1</ymax></bndbox></object>"
            annotation.write_text(f"<annotation><object><name>dog</name>{box}</object>{second}</annotation>")
    lists = {
        "train_list": (["n01-Chow/n01_2.jpg", "n02-Beagle/n02_3.jpg", "n02-Beagle/n02_2.jpg"], [1, 2, 2]),
        "test_list": (["n01-Chow/n01_1.jpg", "n02-Beagle/n02_1.jpg"], [1, 2]),
    }
    for name, (files, labels) in lists.items():
        column = np.array([[file] for file in files], dtype=object)
        savemat(root / f"{name}.mat", {"file_list": column, "labels": np.array(labels, np.uint8)[:, None]})
    return root


def idx(array: np.ndarray) -> bytes:
    """An array of unsigned bytes as an idx file."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def mnist(root: Path, train: list[int], test: list[int], *, side: int = 4) -> Path:
    """Digits whose images are of one grey: ten times their number in the file."""
    root.mkdir(parents=True, exist_ok=True)
    for part, labels in (("train", train), ("t10k", test)):
        images = np.repeat(np.arange(len(labels)) * 10, side * side).reshape(len(labels), side, side)
        (root / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (root / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.array(labels)))
    return root


def files(dataset: RawDataset, part: str | None = None) -> list[str]:
    """Names of the files of a part, in the order of the data set."""
    return [Path(entry.file).name for entry in dataset.entries if entry.part == part]


def pixels(dataset: RawDataset, position: int = 0) -> np.ndarray:
    return np.asarray(dataset.image(dataset.entries[position]))
