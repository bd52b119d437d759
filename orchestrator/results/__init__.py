"""What came of a sweep, as frozen records read from ledger and store.

`sweep_result.py` reads them; `numerics.py` says how jobs computed; `parquet_tables.py` writes results as Parquet;
`units.py` gives a number its unit by its name; `trade_off.py` compares points with the baseline; `comparison.py`
compares two runs number by number. Imports `planning/`, `search/`, `spec/` and `store/`. Begin with
`sweep_result.py`.
"""
