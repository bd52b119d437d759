"""Data sets of images that are stored encoded: each can be decoded alone, and may turn out not to be one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Literal, NamedTuple

from PIL import Image, ImageColor
from pydantic import field_validator

from workloads.core.config import Addition
from workloads.core.errors import DataError
from workloads.datasets.base import Dataset, DatasetConfig, Sample
from workloads.datasets.reading.decoding import Conversion, decode_image


class StoredImage(NamedTuple):
    """One stored image, not read yet."""

    identity: str
    """Name of the identity it shows."""
    where: str
    """Where it lies, for messages: a file, or a file and a row."""
    decode: Callable[[], Image.Image]
    """Reads and decodes it; raises DataError if it is missing or damaged."""
    held_out: bool | None = None
    """Whether the published split keeps it out of training; None if there is none."""


class MissingImage(DataError):
    """A row of a table without an image, in a column of this name."""

    def __init__(self, reason: str, *, column: str) -> None:
        super().__init__(reason)
        self.column = column


class StoredImages(Dataset):
    """A data set whose images are stored encoded. A subclass lists them."""

    @abstractmethod
    def stored(self, names: frozenset[str]) -> Iterable[StoredImage]:
        """Yield every image of the named identities in a fixed order, without decoding any."""

    @property
    def skips_bad_images(self) -> bool:
        """Whether images that cannot be decoded are left out; if not, the first one ends the reading."""
        return False

    def read(self, names: frozenset[str]) -> Iterator[Sample]:
        """Images of these identities, decoded one by one."""
        for stored in self.stored(names):
            try:
                yield Sample(stored.identity, stored.decode(), stored.held_out)
            except DataError:
                if not self.skips_bad_images:
                    raise


class ImageFilesConfig(DatasetConfig):
    """How images of any format become 8-bit RGB, and what is done about those that cannot be read."""

    background: Annotated[str, Addition()] = "white"
    """Colour that transparent images are laid over: a name such as `white`, or a code such as `#808080`."""
    value_range: Annotated[tuple[float, float] | None, Addition()] = None
    """Which numbers are black and white in images of 32-bit numbers, such as `[0.0, 1.0]`; others between are scaled,
    those outside clipped. If omitted, such images are refused. 16-bit images need none: they are scaled."""
    on_bad_image: Annotated[Literal["fail", "skip"], Addition()] = "fail"
    """What to do about missing and damaged images: `fail` before the run with the names of all, or `skip` them, which
    `validate`, `plan` and the report then say with their number."""

    @field_validator("background")
    @classmethod
    def _is_a_colour(cls, background: str) -> str:
        try:
            ImageColor.getrgb(background)
        except ValueError as error:
            raise ValueError(f"no colour is called {background!r}: give a name, such as white, or #rrggbb") from error
        return background

    @field_validator("value_range")
    @classmethod
    def _rises(cls, value_range: tuple[float, float] | None) -> tuple[float, float] | None:
        if value_range is not None and value_range[0] >= value_range[1]:
            raise ValueError(f"{list(value_range)} does not rise: give the number of black, then that of white")
        return value_range

    @property
    def conversion(self) -> Conversion:
        """How images become 8-bit RGB."""
        return Conversion(self.background, self.value_range)


class ImageFiles(StoredImages):
    """A data set of whatever image files a user has."""

    config: ImageFilesConfig

    @property
    def skips_bad_images(self) -> bool:
        """As the configuration says."""
        return self.config.on_bad_image == "skip"

    def stored_image(
        self, identity: str, where: str, read: Callable[[], bytes], held_out: bool | None = None
    ) -> StoredImage:
        """A stored image whose bytes `read` returns, decoded as the configuration says."""
        return StoredImage(identity, where, lambda: decode_image(read(), where, self.config.conversion), held_out)
