"""Turns a data set as it was downloaded into Parquet: checked image by image, in shards, continued where it stopped."""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from workloads.core.config import content, digest
from workloads.core.errors import DataError
from workloads.core.files import replace_when_written, write_atomically
from workloads.datasets.base import DATASETS
from workloads.datasets.preparation.hugging_face import write_metadata
from workloads.datasets.preparation.layouts import Format, HuggingFaceLayout, Layout, layout_for
from workloads.datasets.reading.raw import Entry, Part, RawConfig, RawDataset, Side, open_download

SHARD_ROWS = 1_000
"""Images in one file of the prepared set."""
BATCH_ROWS = 64
"""Images that a thread holds in memory at a time, and rows of a Parquet row group."""
MANIFEST = "manifest.json"
"""Name of the file that says what a prepared set holds."""
PARTIAL = ".partial"
"""Ending of a shard that is still written. It holds no process id, so that the next try overwrites a killed one's."""
UNDIVIDED = "undivided"
"""Name in the manifest for images that belong to no part of a published split."""
ABOUT = b"midre"
"""Key of a shard's metadata that says what the shard was made from and what was wrong with it."""


@dataclass(frozen=True, order=True)
class Problem:
    """An image that is not in the prepared set, and why."""

    file: str
    message: str


@dataclass(frozen=True)
class Shard:
    """A file of the prepared set, written or still to be written."""

    dataset: RawDataset
    entries: Sequence[Entry]
    file: Path
    layout: Layout

    @cached_property
    def fingerprint(self) -> str:
        """Digest of what the shard is made from: settings, entries, and size and time of every file they come from."""
        files = dict.fromkeys(file for entry in self.entries for file in self.dataset.sources(entry))
        facts = [_stamp(file) for file in files]
        layout = {} if self.layout.name == "midre" else {"layout": self.layout.name}
        return digest({"settings": content(self.dataset.config), "entries": self.entries, "files": facts, **layout})

    def problems(self) -> tuple[Problem, ...] | None:
        """Problems met when the shard was written; None if it is not written yet, or was made from something else."""
        try:
            about = json.loads((pq.read_metadata(self.file).metadata or {}).get(ABOUT, b"{}"))
        except (FileNotFoundError, pa.ArrowInvalid):
            return None
        if about.get("fingerprint") != self.fingerprint:
            return None
        return tuple(Problem(**problem) for problem in about["problems"])

    def write(self, on_images: Callable[[int], None]) -> None:
        """Write the shard, never leaving half of one; `on_images` is called with the size of each finished batch."""
        problems: list[Problem] = []
        small, schema = list(self.layout.small_columns), self.layout.schema
        with (
            replace_when_written(self.file, suffix=PARTIAL) as temporary,
            pq.ParquetWriter(
                temporary, schema, compression="none", use_dictionary=small, write_statistics=small
            ) as writer,
        ):
            for start in range(0, len(self.entries), BATCH_ROWS):
                entries = self.entries[start : start + BATCH_ROWS]
                rows = list(self._rows(entries, problems))
                writer.write_batch(pa.RecordBatch.from_pylist(rows, schema))
                on_images(len(entries))
            about = {"fingerprint": self.fingerprint, "problems": [asdict(problem) for problem in problems]}
            writer.add_key_value_metadata({ABOUT: json.dumps(about)})

    def _rows(self, entries: Sequence[Entry], problems: list[Problem]) -> Iterator[dict[str, Any]]:
        """Yield rows of the images that can be read, and add the others to `problems`."""
        for entry in entries:
            try:
                image = self.dataset.encoded(entry)
            except DataError as error:
                problems.append(Problem(entry.file, str(error)))
            else:
                yield self.layout.row(entry, image)


@dataclass(frozen=True)
class Preparation:
    """All shards to be made from a download, by the folder they belong into: `private` or `public`."""

    config: RawConfig
    out: Path
    shards: Mapping[Side, Sequence[Shard]]
    form: Format = "midre"

    @classmethod
    def of(cls, config: RawConfig, out: Path, *, shard_rows: int = SHARD_ROWS, form: Format = "midre") -> Preparation:
        """Plan which shards to make from a download; writes nothing.

        Args:
            form: for whom they are laid out.

        Raises:
            DataError: if the download is not laid out as it should be, or the folder holds something else.
        """
        sides = open_download(config).sides()
        datasets = {side: open_download(side_config) for side, side_config in sides.items()}
        shards = {side: _plan(dataset, out / side, shard_rows, form) for side, dataset in datasets.items()}
        return cls(config, out, shards, form)

    @property
    def images(self) -> int:
        """Number of images to read, those of finished shards among them."""
        return sum(len(shard.entries) for shard in self._all_shards())

    def run(self, *, jobs: int, on_images: Callable[[int], None] = lambda count: None) -> dict[str, Any]:
        """Write the shards that are missing, `jobs` at a time, and then the manifest, which is returned.

        `on_images` is called from several threads with the number of images that were just finished.
        """
        (self.out / MANIFEST).unlink(missing_ok=True)
        with ExitStack() as stack:
            pool = ThreadPoolExecutor(jobs)  # decoding, encoding and writing release the interpreter's lock
            stack.callback(pool.shutdown, cancel_futures=True)  # also when interrupted
            futures = [pool.submit(_write_if_missing, shard, on_images) for shard in self._all_shards()]
            for future in as_completed(futures):
                future.result()
        manifest = self._manifest()
        if self.form == "hf":
            self._write_cards(manifest)
        write_atomically(self.out / MANIFEST, json.dumps(manifest, indent=1).encode())
        return manifest

    def _write_cards(self, manifest: Mapping[str, Any]) -> None:
        """Write what Hugging Face wants to know beside the shards of each side."""
        about = next(about for about in DATASETS.describe() if about["kind"] == self.config.kind)
        for side, shards in self.shards.items():
            layout = shards[0].layout
            assert isinstance(layout, HuggingFaceLayout)
            write_metadata(
                self.out / side,
                name=f"{self.config.kind}, {side} images",
                about=about,
                facts=manifest["sides"][side],
                names=layout.names,
                settings=manifest["settings"],
            )

    def _all_shards(self) -> Iterator[Shard]:
        for shards in self.shards.values():
            yield from shards

    def _manifest(self) -> dict[str, Any]:
        packages = {name: version(name) for name in ("midre", "numpy", "pillow", "pyarrow")}
        return {
            "name": self.config.kind,
            "settings": self.config.model_dump(mode="json", exclude={"path"}),
            "source": str(Path(self.config.path).absolute()),
            "sides": {side: _side_facts(self.out, shards) for side, shards in self.shards.items()},
            "problems": [asdict(problem) for problem in sorted(self._problems())],
            "versions": {"python": platform.python_version(), **packages},
        }

    def _problems(self) -> Iterator[Problem]:
        for shard in self._all_shards():
            yield from shard.problems() or ()


def _plan(dataset: RawDataset, folder: Path, rows: int, form: Format) -> list[Shard]:
    """Divide the entries of a data set into shards of `rows` images."""
    layout = layout_for(form, dataset.names())
    names = frozenset(dataset.names())
    entries = [entry for entry in dataset.entries if entry.identity in names]
    files = {folder / name: part for name, part in layout.files(entries, rows)}
    strangers = sorted(set(folder.rglob("*.parquet")) - set(files))
    if strangers:
        raise DataError(
            f"{strangers[0]} belongs to another data set or protocol: remove {folder}, or name another folder."
        )
    return [Shard(dataset, part, file, layout) for file, part in files.items()]


def _write_if_missing(shard: Shard, on_images: Callable[[int], None]) -> None:
    if shard.problems() is not None:
        on_images(len(shard.entries))
        return
    shard.file.parent.mkdir(parents=True, exist_ok=True)
    shard.write(on_images)


def _stamp(file: Path) -> list[str | int] | None:
    """Name, size and modification time of a file; None if there is none."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return [file.name, status.st_size, status.st_mtime_ns]


def _side_facts(out: Path, shards: Sequence[Shard]) -> dict[str, Any]:
    """What the manifest says of one side: what was listed, and what of it was written."""
    listed = [entry for shard in shards for entry in shard.entries]
    written = [entry for shard in shards for entry in _written(shard)]
    counts = Counter(entry.part or UNDIVIDED for entry in written)
    return {
        "identities": len({entry.identity for entry in written}),
        "images": {part: counts[part] for part in (*get_args(Part), UNDIVIDED) if counts[part]},
        "listed": {"identities": len({entry.identity for entry in listed}), "images": len(listed)},
        "listing_sha256": digest(listed),
        "shards": [_file_facts(out, shard.file) for shard in shards],
    }


def _written(shard: Shard) -> list[Entry]:
    """Images that are in a shard."""
    bad = {problem.file for problem in shard.problems() or ()}
    return [entry for entry in shard.entries if entry.file not in bad]


def _file_facts(out: Path, file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    rows = pq.read_metadata(file).num_rows
    return {"file": file.relative_to(out).as_posix(), "rows": rows, "sha256": sha256}
