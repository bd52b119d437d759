"""Tables of encoded images: `dataset.py` is the data set, `columns.py` reads what their columns hold."""

from workloads.datasets.parquet.dataset import Parquet as Parquet
from workloads.datasets.parquet.dataset import ParquetConfig as ParquetConfig
