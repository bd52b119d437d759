"""What stands beside prepared images for Hugging Face: the data card and the Croissant metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from workloads.core.files import write_atomically

CARD = "README.md"
CROISSANT = "croissant.json"
_TERMS = (
    "citeAs column dataBiases dataCollection extract field fileProperty fileObject fileSet format includes "
    "isLiveDataset jsonPath key md5 parentField path personalSensitiveInformation recordSet references regex repeated "
    "replace separator source subField transform"
)
PARQUET = "application/x-parquet"
CARD_TEXT = """---
{header}
---

# {name}

{summary}

Source: {source}

Prepared by midre from the download of its publisher, whose terms hold for these images. Identities:
{identities:,}.

| split | images |
|---|---|
{splits}

`image` is the image as it was downloaded, or cropped and stored without loss where the protocol crops. `label` is the
number of the identity it shows, whose name the features give, and `file` its place in the download.

Settings: `{settings}`
"""
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    **{term: f"cr:{term}" for term in _TERMS.split()},
}
"""The JSON-LD context of Croissant 1.0, as its specification prints it."""


def write_metadata(
    folder: Path,
    *,
    name: str,
    about: Mapping[str, str],
    facts: Mapping[str, Any],
    names: Sequence[str],
    settings: Mapping[str, Any],
) -> None:
    """Write the data card and the Croissant metadata of one side into its folder.

    Args:
        name: what the data set is called.
        about: its summary and source, as `midre list datasets` prints them.
        facts: what the manifest says of this side.
        names: the identities, in the order of their numbers.
        settings: how it was prepared.
    """
    card = _card(name, about, facts, names, settings)
    write_atomically(folder / CARD, card.encode())
    write_atomically(folder / CROISSANT, json.dumps(_croissant(name, about, facts), indent=1).encode())


def splits_of(facts: Mapping[str, Any]) -> dict[str, int]:
    """Number of images in each split, by the names of the files."""
    splits: dict[str, int] = {}
    for shard in facts["shards"]:
        part = Path(shard["file"]).name.partition("-")[0]
        splits[part] = splits.get(part, 0) + shard["rows"]
    return splits


def _card(
    name: str, about: Mapping[str, str], facts: Mapping[str, Any], names: Sequence[str], settings: Mapping[str, Any]
) -> str:
    """The data card: a header that `datasets` reads, and words."""
    splits = splits_of(facts)
    return CARD_TEXT.format(
        header=yaml.safe_dump(_header(name, splits, names), sort_keys=False, allow_unicode=True).rstrip(),
        name=name,
        summary=about["summary"],
        source=about["source"],
        identities=facts["identities"],
        splits="\n".join(f"| {split} | {images:,} |" for split, images in splits.items()),
        settings=json.dumps(settings),
    )


def _header(name: str, splits: Mapping[str, int], names: Sequence[str]) -> dict[str, Any]:
    """Files of each split, columns and names of the classes."""
    labels = {str(number): identity for number, identity in enumerate(names)}
    files = [{"split": split, "path": f"data/{split}-*"} for split in splits]
    return {
        "pretty_name": name,
        "task_categories": ["image-classification"],
        "configs": [{"config_name": "default", "data_files": files}],
        "dataset_info": {
            "features": [
                {"name": "image", "dtype": "image"},
                {"name": "label", "dtype": {"class_label": {"names": labels}}},
                {"name": "file", "dtype": "string"},
            ],
        },
    }


def _croissant(name: str, about: Mapping[str, str], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata as JSON-LD.

    Source: Croissant format specification 1.0, MLCommons, 2024.
    """
    files = [_file(shard) for shard in facts["shards"]]
    shards = {
        "@type": "cr:FileSet",
        "@id": "shards",
        "name": "shards",
        "containedIn": [{"@id": file["@id"]} for file in files],
        "encodingFormat": PARQUET,
        "includes": "data/*.parquet",
    }
    fields = [
        _field("image", "sc:ImageObject", {"jsonPath": "bytes"}),
        _field("label", "sc:Integer"),
        _field("file", "sc:Text"),
    ]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": name,
        "description": about["summary"],
        "citeAs": about["source"],
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "distribution": [*files, shards],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "images", "name": "images", "field": fields}],
    }


def _file(shard: Mapping[str, Any]) -> dict[str, Any]:
    file = Path(shard["file"]).name
    return {
        "@type": "cr:FileObject",
        "@id": file,
        "name": file,
        "contentUrl": f"data/{file}",
        "encodingFormat": PARQUET,
        "sha256": shard["sha256"],
    }


def _field(column: str, kind: str, transform: Mapping[str, str] | None = None) -> dict[str, Any]:
    source: dict[str, Any] = {"fileSet": {"@id": "shards"}, "extract": {"column": column}}
    if transform is not None:
        source["transform"] = dict(transform)
    return {"@type": "cr:Field", "@id": f"images/{column}", "name": column, "dataType": kind, "source": source}
