"""Downloads turned into Parquet: `shards.py` checks images one by one, writes them in shards and continues where it
stopped; `layouts.py` says what a file of them holds, and `hugging_face.py` writes the card and the Croissant metadata
that Hugging Face reads. `archives.py` gets a download first. Begin with `shards.py`.
"""

from workloads.datasets.preparation.shards import MANIFEST as MANIFEST
from workloads.datasets.preparation.shards import UNDIVIDED as UNDIVIDED
from workloads.datasets.preparation.shards import Preparation as Preparation
