"""What is kept: `artifacts.py` (results of jobs, by key, immutable), `ledger.py` (the log of a run's events) and
`paths.py` (file names in a run folder, which this module alone knows). Ledger and artifacts are the truth; every table,
report and MLflow run can be rebuilt from them. Imports `errors.py` alone. Begin with `artifacts.py`.
"""
