"""What came of a sweep, as frozen records read from ledger and store.

`sweep_result.py` reads them; `numerics.py` says how jobs computed; `parquet_tables.py` writes results as Parquet;
`paired_points.py` and `trade_off.py` compare points with the baseline; `confirmation.py` compares what a search
promised with what was confirmed; `summary.py` is the shape for programs;
`comparison.py` compares two runs number by number. Imports `planning/`, `search/`, `spec/`, `statistics/` and `store/`.
Begin with `sweep_result.py`.
"""
