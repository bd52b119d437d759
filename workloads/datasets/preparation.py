"""From a data set as it was downloaded to Parquet: checked image by image, in shards, continued where it stopped."""

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
from workloads.datasets.reading.raw import Entry, Part, RawConfig, RawDataset, Side

SHARD_ROWS = 1_000
BATCH_ROWS = 64
"""Images that a thread holds in memory at a time, and rows of a Parquet row group."""
MANIFEST = "manifest.json"
PARTIAL = ".partial"
"""Ending of a shard that is still written. It holds no process id, so that the next try overwrites a killed one's."""
SCHEMA = pa.schema([("identity", pa.string()), ("file", pa.string()), ("part", pa.string()), ("image", pa.binary())])
UNDIVIDED = "undivided"
"""What the manifest calls images that no published split speaks of."""
ABOUT = b"midre"
"""Key under which a shard says what it was made of and what was wrong with that."""


@dataclass(frozen=True, order=True)
class Problem:
    """An image that is not in the prepared set, and why."""

    file: str
    message: str


@dataclass(frozen=True)
class Shard:
    """A file of the prepared set, made or to be made."""

    dataset: RawDataset
    entries: Sequence[Entry]
    file: Path

    @cached_property
    def fingerprint(self) -> str:
        """What the shard is made of: settings, images, and size and time of every file they come from."""
        files = dict.fromkeys(file for entry in self.entries for file in self.dataset.sources(entry))
        facts = [_stamp(file) for file in files]
        return digest({"settings": content(self.dataset.config), "entries": self.entries, "files": facts})

    def problems(self) -> tuple[Problem, ...] | None:
        """What was wrong when the shard was made; None where it is not made yet, or of something else."""
        try:
            about = json.loads((pq.read_metadata(self.file).metadata or {}).get(ABOUT, b"{}"))
        except (FileNotFoundError, pa.ArrowInvalid):
            return None
        if about.get("fingerprint") != self.fingerprint:
            return None
        return tuple(Problem(**problem) for problem in about["problems"])

    def make(self, on_images: Callable[[int], None]) -> None:
        """Write the shard so that no reader meets half of one."""
        problems: list[Problem] = []
        small = ["identity", "part"]  # columns of which an index pays; images are compressed already
        with (
            replace_when_written(self.file, suffix=PARTIAL) as temporary,
            pq.ParquetWriter(
                temporary, SCHEMA, compression="none", use_dictionary=small, write_statistics=small
            ) as writer,
        ):
            for start in range(0, len(self.entries), BATCH_ROWS):
                entries = self.entries[start : start + BATCH_ROWS]
                rows = list(self._rows(entries, problems))
                writer.write_batch(pa.RecordBatch.from_pylist(rows, SCHEMA))
                on_images(len(entries))
            about = {"fingerprint": self.fingerprint, "problems": [asdict(problem) for problem in problems]}
            writer.add_key_value_metadata({ABOUT: json.dumps(about)})

    def _rows(self, entries: Sequence[Entry], problems: list[Problem]) -> Iterator[dict[str, Any]]:
        """Rows of the images that are whole; the others join `problems`."""
        for entry in entries:
            try:
                image = self.dataset.encoded(entry)
            except DataError as error:
                problems.append(Problem(entry.file, str(error)))
            else:
                yield {"identity": entry.identity, "file": entry.file, "part": entry.part, "image": image}


@dataclass(frozen=True)
class Preparation:
    """All shards of a data set, by the folder they belong into: `private` or `public`."""

    config: RawConfig
    out: Path
    shards: Mapping[Side, Sequence[Shard]]

    @classmethod
    def of(cls, config: RawConfig, out: Path, *, shard_rows: int = SHARD_ROWS) -> Preparation:
        """Plan what to make of a download.

        Raises:
            DataError: if it is not laid out as it should be, or the folder holds something else.
        """
        kind = DATASETS.class_of(config)
        assert issubclass(kind, RawDataset)
        shards = {side: _planned(kind(own), out / side, shard_rows) for side, own in kind.sides(config).items()}
        return cls(config, out, shards)

    @property
    def images(self) -> int:
        """How many images there are to look at."""
        return sum(len(shard.entries) for own in self.shards.values() for shard in own)

    def run(self, *, jobs: int, on_images: Callable[[int], None] = lambda count: None) -> dict[str, Any]:
        """Make the shards that are not there yet, `jobs` at a time, and write the manifest; what it says.

        `on_images` hears, from several threads, of every so many images that are done.
        """
        (self.out / MANIFEST).unlink(missing_ok=True)
        with ExitStack() as stack:
            pool = ThreadPoolExecutor(jobs)  # decoding, encoding and writing leave the interpreter's lock alone
            stack.callback(pool.shutdown, cancel_futures=True)  # at an interrupt as well
            work = [pool.submit(_finished, shard, on_images) for own in self.shards.values() for shard in own]
            for done in as_completed(work):
                done.result()
        manifest = self._manifest()
        write_atomically(self.out / MANIFEST, json.dumps(manifest, indent=1).encode())
        return manifest

    def _manifest(self) -> dict[str, Any]:
        packages = {name: version(name) for name in ("midre", "numpy", "pillow", "pyarrow")}
        return {
            "name": self.config.kind,
            "settings": self.config.model_dump(mode="json", exclude={"path"}),
            "source": str(Path(self.config.path).absolute()),
            "sides": {side: _facts(self.out, own) for side, own in self.shards.items()},
            "problems": [asdict(problem) for problem in sorted(self._problems())],
            "versions": {"python": platform.python_version(), **packages},
        }

    def _problems(self) -> Iterator[Problem]:
        for own in self.shards.values():
            for shard in own:
                yield from shard.problems() or ()


def _planned(dataset: RawDataset, folder: Path, rows: int) -> list[Shard]:
    names = frozenset(dataset.names())
    entries = [entry for entry in dataset.entries if entry.identity in names]
    parts = [entries[start : start + rows] for start in range(0, len(entries), rows)]
    files = [folder / f"{number:05d}-of-{len(parts):05d}.parquet" for number in range(len(parts))]
    strangers = sorted(set(folder.glob("*.parquet")) - set(files))
    if strangers:
        raise DataError(f"{strangers[0]} is of another data set or protocol: remove {folder}, or name another folder.")
    return [Shard(dataset, part, file) for part, file in zip(parts, files, strict=True)]


def _finished(shard: Shard, on_images: Callable[[int], None]) -> None:
    """Make a shard unless it is there."""
    if shard.problems() is not None:
        on_images(len(shard.entries))
        return
    shard.make(on_images)


def _stamp(file: Path) -> list[str | int] | None:
    """Name, size and time of change of a file; None where there is none."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return [file.name, found.st_size, found.st_mtime_ns]


def _facts(out: Path, shards: Sequence[Shard]) -> dict[str, Any]:
    """What the manifest says of one side: read off the files themselves."""
    columns = pa.concat_tables(pq.read_table(shard.file, columns=["identity", "part"]) for shard in shards)
    listed = [entry for shard in shards for entry in shard.entries]
    counts = Counter(part or UNDIVIDED for part in columns["part"].to_pylist())
    return {
        "identities": len(columns["identity"].unique()),
        "images": {part: counts[part] for part in (*get_args(Part), UNDIVIDED) if counts[part]},
        "listed": {"identities": len({entry.identity for entry in listed}), "images": len(listed)},
        "listing_sha256": digest(listed),
        "shards": [_file_facts(out, shard.file) for shard in shards],
    }


def _file_facts(out: Path, file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    rows = pq.read_metadata(file).num_rows
    return {"file": file.relative_to(out).as_posix(), "rows": rows, "sha256": sha256}
